"""Evaluation of Rego with ``regopy`` (rego-cpp).

Owns compilation, its cache and the errors of both. What a policy means, and which data and input
it gets, is the caller's.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import regopy

from mocktee.kbs.encoding import Json
from mocktee.kbs.errors import PolicyEngineError

SHIPPED: Final = (
    *("allow_all", "deny_all", "affirming", "default", "appraisal"),
    *("allow_every_path", "default_by_tee", "default_cpu"),
)
MAX_COMPILED: Final = 64  # one entry per distinct data document
MAX_TEXT: Final = 256 * 1024  # characters of a policy
_ERROR_MESSAGE: Final = re.compile(r"\(errormsg \d+:([^)]*)\)")
_FOLDER: Final = Path(__file__).parent / "policy_texts"


def shipped_policy(name: str) -> str:
    """Return the text of a policy that comes with the mock; ``ValueError`` on another name."""
    if name not in SHIPPED:
        raise ValueError(f"no shipped policy {name!r}; there are {', '.join(SHIPPED)}")
    return (_FOLDER / f"{name}.rego").read_text()


class RegoPolicy:
    """One policy text and one query on it.

    Compiling takes 1 to 5 ms and the base document is compiled in, running takes a fraction of a
    millisecond; so the compiled form is kept per base document, least recently used first out.
    """

    def __init__(self, text: str, rule: str) -> None:
        """Compile once, to find errors now. Raises :class:`PolicyEngineError`."""
        if len(text) > MAX_TEXT:
            raise PolicyEngineError(f"policy of {len(text)} characters, at most {MAX_TEXT}")
        self.text = text
        self._query = f"result = {rule}"
        self._compiled: OrderedDict[str, tuple[regopy.Interpreter, regopy.Bundle]] = OrderedDict()
        self._compile("{}")

    def evaluate(self, data: Mapping[str, Json], claims: Mapping[str, Json]) -> Json:
        """Return the value of the rule, ``None`` when it is undefined.

        Raises :class:`PolicyEngineError` when evaluation fails, for instance on two different
        values for one rule.
        """
        document = json.dumps(data, sort_keys=True)
        compiled = self._compiled.get(document)
        if compiled is None:
            compiled = self._compile(document)
            self._compiled[document] = compiled
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(document)
        interpreter, bundle = compiled
        try:
            interpreter.set_input(dict(claims))
            output = interpreter.query_bundle(bundle)
        except (regopy.RegoError, ValueError) as error:
            raise PolicyEngineError("policy does not evaluate") from error
        if not output.ok():
            raise PolicyEngineError("policy does not evaluate")
        value: Json = output.results[0].bindings.get("result") if output.results else None
        return value

    def _compile(self, document: str) -> tuple[regopy.Interpreter, regopy.Bundle]:
        interpreter = regopy.Interpreter()
        interpreter.log_level = regopy.LogLevel.NONE  # the library prints errors to stdout
        try:
            interpreter.add_module("policy.rego", self.text)
            interpreter.add_data_json(document)
            return interpreter, interpreter.build(self._query)
        except (regopy.RegoError, ValueError) as error:
            causes = _ERROR_MESSAGE.findall(str(error)) or ["no cause given"]
            raise PolicyEngineError(f"policy does not compile: {causes[0][:256]}") from error
