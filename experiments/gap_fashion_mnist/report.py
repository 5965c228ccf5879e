RESULTS = __import__("pathlib").Path(__file__).parent / "results"


def write(out):
    pass
