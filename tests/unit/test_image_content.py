"""What gets into the image: every folder of the package is named, since builders differ in what `**` takes back."""

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_every_file_of_the_package_gets_into_the_image() -> None:
    taken = {line[1:] for line in (TOP / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    files = [each for each in (TOP / "collector").rglob("*.*") if each.is_file() and "__pycache__" not in each.parts]
    kinds = {str(each.parent.relative_to(TOP) / f"*{each.suffix}") for each in files}
    assert kinds <= taken
    assert all("**" not in line for line in taken)
