"""On PYTHONPATH, it puts the stand-in in the place of `triode.codecs.image`, in worker processes too."""

import importlib.util
import sys
from pathlib import Path

_FAKE = Path(__file__).resolve().parent.parent / "fake_codec.py"


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, _FAKE) if name == "triode.codecs.image" else None


sys.meta_path.insert(0, _Finder)
