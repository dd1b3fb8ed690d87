"""What the rows of rollouts say: read once from files of several formats, summarised, and put as a report.

lines         a file as chunks of whole lines; nothing that a line holds is fatal
formats       which program wrote a file, and where its rows keep what we need
columns       what is kept of a row: some 30 bytes
reading       files to columns, with what was wrong, line by line
groups        columns to arrays in the order of the prompts, duplicates taken out
repeats       avg@n, pass@k, pass^k, maj@k, best@k with intervals; difficulty, variance
correlation   Pearson and Spearman with intervals that know that rows of one prompt belong together
summary       everything as one JSON-able content; `breakdown`, `coverage`, `distribution`, `prompts` are parts of it
sections      the content as paragraphs, tables and figures (`blocks`); `markdown` and `page` (HTML) render them
figures       as SVG
paired        two of them on the same prompts
"""
