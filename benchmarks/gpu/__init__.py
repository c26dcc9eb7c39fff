"""The CPU against the GPU, and tinynet on the GPU against its peers: ``python -m benchmarks gpu``.

===============  ===========================================================================================
``command``      the verb: one section after the other, each kept as soon as it is measured
``crew``         the processes that do the work: one that crashes or hangs is replaced, and its work noted
``worker``       what such a process can be asked for
``device``       the GPU, or in a rehearsal the CPU in its place: arrays, clocks, graphs
``environment``  the facts that go with every figure: card, driver, clocks, versions
``ceilings``     what the card can do at best: copies, products, launches
``correctness``  every kernel, and twenty training steps, against float64
``kernels``      single kernels on CPU and GPU, and from which batch on the GPU is ahead
``training``     whole training steps of nets (a) to (c), tinynet and its peers in turns
``accuracy``     seconds of training until 99 % of the MNIST test digits are read
``decisions``    five measurements on which the design of the kernels depends
``bars``         the ratios that were promised, and whether they were reached
``schema``       what a result file must hold
``tables``       how all this is shown
===============  ===========================================================================================

``benchmarks/engines/gpu_*.py`` hold the networks in tinynet and in each peer.
"""
