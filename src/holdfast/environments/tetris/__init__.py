"""GRL Tetris: clear a row of a small board. The rules are those of NeMo Gym's environment of that name.

rules      the game: a board, pieces, three moves; knows nothing of chats
episodes   how it is played: by a tool, or by tags in a text
puzzles    the prompts of the published evaluation, 200 by default

https://github.com/NVIDIA-NeMo/Gym/tree/main/resources_servers/grl_tetris
"""
