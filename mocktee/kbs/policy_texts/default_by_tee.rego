# The default of v0.8.2 to v0.10: simple tokens name the TEE on top.
package policy

import rego.v1

default allow := false

allow if input.tee != "sample"
