"""Files: data and models that people bring, results that are written."""

from seqscope.files.data import read, read_data, read_text
from seqscope.files.models import open_model
from seqscope.files.result_places import all_or_none, check_output
from seqscope.files.results import PICTURES, RESULTS, Result, check_picture, is_picture, is_table, write_result, writer_for

__all__ = [
    "PICTURES",
    "RESULTS",
    "Result",
    "all_or_none",
    "check_output",
    "check_picture",
    "is_picture",
    "is_table",
    "open_model",
    "read",
    "read_data",
    "read_text",
    "write_result",
    "writer_for",
]
