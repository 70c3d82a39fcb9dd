"""Learning rates as the log and the plan print them."""

from collections.abc import Mapping


def format_rate(rate: float) -> str:
    """Return a learning rate in the form of the reference's log: 0.0, 2.5e-05, 1e-04."""
    if rate == 0:
        return "0.0"
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def format_rates(rates: Mapping[str, float], *, assign: str = "=", separator: str = ",") -> str:
    """Return learning rates by name as "vgglr=0.0,baselr=2.5e-05,stagelr=1e-04", or as "lr=8e-03" if all are equal."""
    if len(set(rates.values())) == 1:
        rates = {"lr": next(iter(rates.values()))}
    return separator.join(f"{name}{assign}{format_rate(rate)}" for name, rate in rates.items())
