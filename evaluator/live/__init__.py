"""The command `live`: people in front of a camera, on a web page.

`inputs` opens cameras, streams and files, `capture` keeps their newest frame, `view` draws it, `server` shows it, `live` is the
command. Imports `evaluator.predict`, `evaluator.tracking`, `evaluator.inference`, and of the standard library `http.server`.
"""
