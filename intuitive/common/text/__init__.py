"""The committed texts, read by `intuitive.common.corpus`; licences are in NOTICE.md."""
