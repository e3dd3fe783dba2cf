# A resource goes to every attested guest but to the software-only TEE "sample",
# whose evidence anybody can make.
package policy

import rego.v1

default allow := false

evidence := input.submods.cpu0["ear.veraison.annotated-evidence"]

allow if {
	data.plugin == "resource"
	not evidence.sample
}
