"""One folder per class."""

from pathlib import Path

from mmfound.data.sources.files import ImageFiles
from mmfound.errors import DataError

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))


class ClassFolders(ImageFiles):
    """Pictures in `root/CLASS/...`; labels count the folders in alphabetical order.

    Args:
        root: folder with one folder per class, at any depth below which its pictures lie.
        classes: readable names, in the order of the folders; the folders' own names by default.
        template: a caption for every picture, with `{}` for the name of its class; none by default.

    Raises:
        DataError: when there are no folders, no pictures, or not one name per folder.
    """

    def __init__(self, root: str, *, classes: list[str] | None = None, template: str | None = None) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"ClassFolders: {root} is no folder. Check data.init_args.source.init_args.root.")
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if not found:
            raise DataError(f"ClassFolders: {root} has no folders, so no classes. It should hold one folder per class.")
        if classes is not None and len(classes) != len(found):
            raise DataError(f"ClassFolders: {len(classes)} classes given, but {root} has {len(found)} folders.")
        names = classes or found
        labelled = [(path, label) for label, name in enumerate(found) for path in _pictures(folder, name)]
        labels = [label for _, label in labelled]
        captions = None if template is None else [[template.format(names[label])] for label in labels]
        paths = [path for path, _ in labelled]
        super().__init__(folder, paths, captions=captions, labels=labels, classes=names, what=f"ClassFolders: {root}")


def _pictures(root: Path, name: str) -> list[str]:
    files = (path for path in (root / name).rglob("*") if path.suffix.lower() in EXTENSIONS)
    return sorted(path.relative_to(root).as_posix() for path in files)
