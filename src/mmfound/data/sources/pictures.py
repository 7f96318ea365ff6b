"""A folder of pictures."""

from pathlib import Path

from mmfound.data.sources.class_folders import EXTENSIONS
from mmfound.data.sources.files import ImageFiles
from mmfound.errors import DataError


class Pictures(ImageFiles):
    """All pictures in a folder and the folders in it, in the order of their paths; no captions, no labels.

    Args:
        root: the folder.

    Raises:
        DataError: when it is none, or holds no picture.
    """

    def __init__(self, root: str) -> None:
        folder = Path(root)
        if not folder.is_dir():
            raise DataError(f"Pictures: {root} is no folder. Check the path.")
        files = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        paths = sorted(path.relative_to(folder).as_posix() for path in files)
        if not paths:
            raise DataError(f"Pictures: {root} holds no picture ({', '.join(sorted(EXTENSIONS))}), nor do its folders.")
        super().__init__(folder, paths, what=f"Pictures: {root}")
