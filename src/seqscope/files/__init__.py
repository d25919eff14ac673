"""Files: data and models that people bring, results that are written."""

from seqscope.files.data import read, read_data, read_text
from seqscope.files.models import open_model
from seqscope.files.results import Result, check_output, check_picture, is_picture, write_result, writer_for

__all__ = [
    "Result",
    "check_output",
    "check_picture",
    "is_picture",
    "open_model",
    "read",
    "read_data",
    "read_text",
    "write_result",
    "writer_for",
]
