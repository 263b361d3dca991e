"""Outrider's drafters inside vLLM, as a custom proposer (docs/scaling.md).

    vllm serve MODEL --speculative-config
        '{"method": "custom_class", "model": "outrider.hosts.vllm.Proposer", "num_speculative_tokens": 8}'

vLLM verifies, so that exactness is vLLM's: it takes drafts as deterministic. Outrider says which tokens to draft, and
how many of them pay.
"""

from outrider.hosts.vllm.proposer import Proposer

__all__ = ["Proposer"]
