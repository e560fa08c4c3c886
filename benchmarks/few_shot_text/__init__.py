"""Intents from few examples: encoders and methods on CLINC150 and Banking77, one table into docs/results.md.

    python -m benchmarks.few_shot_text --root DATA --minilm FOLDER --static FOLDER

``DATA`` holds the folders ``clinc150`` and ``banking77``. The other two folders are all-MiniLM-L6-v2 and static
vectors, as ``configs/clinc150`` says where to get them; the rows of what is not given are left out. Each row of
``rows.yaml`` is a config of ``configs/clinc150`` with options. It is tested on the five class splits of
ProtAugment, each with 5 ways and 1 shot, 5 ways and 5 shots, 15 ways and 5 shots; a method that is trained is trained
on each split. All rows have the same episodes, and each is compared with another one by one. What has results in
``--out`` already is not repeated, a training that was interrupted is resumed; so the table grows from call to call.
"""
