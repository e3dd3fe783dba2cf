# A resource goes to guests all of whose parts the verifier vouches for.
package policy

import rego.v1

default allow := false

doubtful contains name if {
	some name, submod in input.submods
	submod["ear.status"] != "affirming"
}

allow if {
	data.plugin == "resource"
	input.submods.cpu0
	count(doubtful) == 0
}
