import pickle

import pytest

from triode import errors

EXIT_CODES = {
    "CodecError": 1,
    "BitstreamError": 3,
    "TruncatedError": 3,
    "EntropyMismatchError": 3,
    "LimitExceededError": 4,
    "ModelMismatchError": 5,
    "UnsupportedError": 1,
    "VerifyError": 6,
}


def test_the_tree_is_complete_and_documented():
    assert set(errors.__all__) == set(EXIT_CODES)
    assert all(getattr(errors, name).__doc__ for name in EXIT_CODES)


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_exit_codes_and_root(name, code):
    error = getattr(errors, name)
    assert error.exit_code == code
    assert issubclass(error, errors.CodecError)


def test_builtin_parents():
    assert issubclass(errors.BitstreamError, ValueError)
    assert issubclass(errors.TruncatedError, errors.BitstreamError)
    assert issubclass(errors.TruncatedError, EOFError)
    assert issubclass(errors.EntropyMismatchError, errors.BitstreamError)
    for name in ("LimitExceededError", "ModelMismatchError", "UnsupportedError", "VerifyError"):
        assert not issubclass(getattr(errors, name), errors.BitstreamError)


@pytest.mark.parametrize("name", EXIT_CODES)
def test_errors_cross_process_borders(name):
    error = pickle.loads(pickle.dumps(getattr(errors, name)("what was found")))
    assert type(error).__name__ == name
    assert str(error) == "what was found"
