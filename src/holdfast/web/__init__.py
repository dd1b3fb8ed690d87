"""Pages in a browser, served by this process alone: starlette and uvicorn, no build step, nothing from the network.

guard      who may ask: Host, Origin, token; the headers that go with every answer
server     files of the page, errors as JSON, events; knows nothing of what is shown
find       what a name or a path means, as files of rows
live       keeps the index in step with them, and says when there is more
transcript one row, of ours, NeMo Gym's or the document's, as messages with rewards
rollouts   the questions that the page asks
"""
