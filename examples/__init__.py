"""Programs to read and to run; installed as ``tinynet.examples``, for ``tinynet train``."""
