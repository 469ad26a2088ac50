"""placeholder"""
from airflow.triggers.base import BaseTrigger
class MoverPodTrigger(BaseTrigger):
    def __init__(self, **kwargs): super().__init__(); self.kw = kwargs
    def serialize(self): return ("mtv.orchestration.pods.trigger.MoverPodTrigger", self.kw)
    async def run(self): yield None
