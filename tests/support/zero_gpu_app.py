"""Starts app.py as a ZeroGPU Space would: `spaces` is imported first, with the host that the environment names.

The package patches torch for CUDA on import, which torch for CPUs cannot bear, so torch is hidden from it meanwhile.
"""

import importlib
import sys

if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]
    importlib.import_module("spaces")
    del sys.modules["torch"]
    importlib.import_module("jepa_app.serve").main()
