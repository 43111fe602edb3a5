import torch

# The networks are small: more threads would wait for each other, the longer the busier the machine.
torch.set_num_threads(1)
