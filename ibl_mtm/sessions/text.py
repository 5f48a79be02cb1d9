"""Text variables of a cache as plain NumPy strings.

as_text(ds.beryl)          # array(['CA1', 'DG', ...], dtype='<U3')
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_text"]


def as_text(values: Any) -> NDArray[np.str_]:
    """Convert text of any array type to fixed-width strings.

    Zarr's strings arrive as ``StringDType``, which NumPy cannot cast to ``str`` directly, nor
    compare with lists in `numpy.isin`.

    Examples
    --------
    >>> as_text(ds.beryl.values[:2])
    array(['CA1', 'DG'], dtype='<U3')
    """
    return np.asarray(values).astype(object).astype(str)
