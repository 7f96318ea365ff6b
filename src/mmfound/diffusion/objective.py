import torch
import math
def stratified_times(size, first, whole):
    return (first + torch.arange(size, dtype=torch.float64) + torch.rand(size, dtype=torch.float64)) / whole
