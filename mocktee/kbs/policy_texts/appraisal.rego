# The trust vector of a token (AR4SI values): 2 and 3 affirm, 33 and 36 warn, 97 contraindicates.
# input: the verifier's claims under the name of the TEE. data.reference: name -> list of good values.
package policy

import rego.v1

default executables := 33

default configuration := 36

default hardware := 97

executables := 3 if {
	body := input.tdx.quote.body
	body.rtmr_1 in data.reference.rtmr_1
	body.rtmr_2 in data.reference.rtmr_2
}

hardware := 2 if {
	input.tdx.quote.header.tee_type == "81000000"
	input.tdx.quote.body.mr_td in data.reference.mr_td
	input.tdx.tcb_status == "UpToDate"
	input.tdx.collateral_expiration_status == "0"
}

configuration := 2 if {
	not input.tdx.td_attributes.debug
	input.tdx.quote.body.xfam in data.reference.xfam
}

executables := 3 if input.sample.launch_digest in data.reference.launch_digest

hardware := 2 if {
	input.sample.svn in data.reference.svn
	input.sample.platform_version.major in data.reference.major_version
	some least in data.reference.minimum_minor_version
	input.sample.platform_version.minor >= least
}

hardware := 2 if input.sampledevice.svn in data.reference.device_svn

configuration := 2 if input.sample.debug == false

trust_claims := {
	"instance-identity": 0,
	"configuration": configuration,
	"executables": executables,
	"file-system": 0,
	"hardware": hardware,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}
