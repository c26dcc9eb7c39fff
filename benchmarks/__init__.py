"""What is fast and what is not: ``python -m benchmarks``.

============  ============================================================================================
``machine``   the facts that go with every figure: processor, versions, thread counts, commit
``timing``    medians, quartiles, and a watch on what other processes do meanwhile
``pace``      whether all cores are there now
``report``    tables for the terminal and for Markdown, and the JSON file
``ceiling``   what this machine can do at best: products from registers, bytes copied
``cases``     which shapes each kernel is run on (``case``, ``*_cases``: parts of it)
``kernels``   every kernel: right first, then how fast
``nets``      the four networks, their data and their weights
``engines``   the networks in tinynet and in each peer, one file per engine
``worker``    the process that one engine runs in
``children``  starting those processes and talking to them
``race``      what engines compute is compared, and then how fast, in turns
``options``   which engines take part, and what the commands take in common
``train``     samples per second and peak memory of all engines, compared
``curves``    cost by threads, batch and image size; ``curve_pictures`` draws them
``gpu``       CPU against GPU, and training on a GPU; a folder of its own
``kept``      results that were kept, shown: ``report``; ``kept_pictures`` draws them
``tape``      what recording and differentiating cost beside the kernels
``*_tables``  how the commands show their figures
============  ============================================================================================

``results/`` keeps what was measured. Nothing here is installed with tinynet.
"""
