"""What a whole checkpoint consists of: its files, their sizes and checksums.

orbax renames a checkpoint when it is whole, so a killed process leaves none that looks finished. What a
full disk, a lost page or a copy that was cut short does to the files later it notices in part: a changed
byte in an array goes through, and each file that is missing costs a page of warnings. The inventory is
written last and read first.
"""

import hashlib
import json
from pathlib import Path

from sparsetrain.training.metrics import replace_text

NAME = "inventory.json"


def write(folder: Path) -> None:
    """Writes down all files that are in a folder.

    Args:
      folder: a finished checkpoint.

    Example:
      >>> import tempfile
      >>> folder = Path(tempfile.mkdtemp())
      >>> _ = (folder / "weights").write_bytes(bytes(100))
      >>> write(folder)
      >>> complaint(folder) is None
      True
      >>> _ = (folder / "weights").write_bytes(bytes(50))
      >>> complaint(folder)
      'weights has 50 of 100 bytes'
    """
    found = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }
    replace_text(folder / NAME, json.dumps(found, indent=0) + "\n")


def complaint(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None.

    A checkpoint without inventory passes: it was written by an older version, or by a process that
    was killed right before it wrote one. It was whole then, and orbax's own checks have to do.

    Args:
      folder: the checkpoint.

    Returns:
      The first difference in a few words, such as "default/manifest.ocdbt is missing".
    """
    path = folder / NAME
    if not path.exists():
        return None if any(folder.iterdir()) else "it is empty"
    try:
        wanted = json.loads(path.read_text())
        for name, (size, digest) in wanted.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if (there := file.stat().st_size) != size:
                return f"{name} has {there:,} of {size:,} bytes"
            if _digest(file) != digest:
                return f"{name} has other bytes than were written"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{NAME} cannot be read ({type(error).__name__})"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
