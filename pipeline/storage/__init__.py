"""What is read and written: files and folders that are complete or absent, checked documents, Markdown. Imports `pipeline.errors` and
`pipeline.wording`."""
