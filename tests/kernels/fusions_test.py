"""What XLA does at the speed of memory by itself, and why there are no kernels for it: read from the compiled program.

On a CPU a fusion has one result, so threshold and residual are two passes, and neither may take the place of what both
read. On a GPU they are one pass in place, as `benchmarks.kernels_compiled` reads from the programs of an H200.
"""

import jax
import pytest

from benchmarks import kernels_compiled

THRESHOLD, SCORES, ROWS = "threshold and residual (XLA)", "column scores (XLA)", "row update (XLA)"


# As users compile; for the tests themselves conftest.py asks for other emitters, which fuse otherwise.
OPTIONS = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}


def compiled(name, donated):
    (path,) = [each for each in kernels_compiled.paths() if each.name == name]
    lowered = jax.jit(path.function, donate_argnums=donated).lower(*path.operands)
    return lowered.compile(compiler_options=OPTIONS)


@pytest.mark.parametrize(
    ("name", "donated", "fusions"), [(THRESHOLD, (), 2), (SCORES, (), 1), (ROWS, (0,), 3)]
)
def test_it_is_fused_without_copy_or_sort(optimised, name, donated, fusions):
    program = compiled(name, donated)
    found = kernels_compiled.facts(program.as_text())
    assert found == {"calls": 0, "fusions": fusions, "copies": 0, "sorts": 0}
    written_in_place = 4096 * 4096 * 4 if donated else 0
    assert program.memory_analysis().alias_size_in_bytes == written_in_place


def test_a_copy_would_be_seen(optimised):
    assert kernels_compiled.facts(compiled(THRESHOLD, (0,)).as_text())["copies"] == 1
