"""What deployments were seen to refuse: optional parameters by name, remembered while the process lives (docs/translation.md, rule 11)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

MAX_DEPLOYMENTS = 1000


class LearntRefusals:
    """Deployment -> parameters that it refuses. Mutable; bounded, the longest unused goes first."""

    def __init__(self) -> None:
        self._by_deployment: OrderedDict[str, frozenset[str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_deployment)

    def of(self, deployment: str) -> frozenset[str]:
        """The parameters that `deployment` refuses."""
        return self._by_deployment.get(deployment, frozenset())

    def forget(self, upstreams: Collection[str]) -> None:
        """Forget what the deployments of these upstreams refused."""
        for name in [name for name in self._by_deployment if name.partition("/")[0] in upstreams]:
            del self._by_deployment[name]

    def learn(self, deployment: str, parameter: str) -> None:
        """Remember one more."""
        self._by_deployment[deployment] = self.of(deployment) | {parameter}
        self._by_deployment.move_to_end(deployment)
        if len(self._by_deployment) > MAX_DEPLOYMENTS:
            self._by_deployment.popitem(last=False)
