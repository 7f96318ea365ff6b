class LossWeight: pass
class Uniform(LossWeight): pass
