import torch

# The networks are small: more threads would wait for each other, most of all on a busy machine.
torch.set_num_threads(1)
