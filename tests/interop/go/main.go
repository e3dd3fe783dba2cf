// Command interop parses and verifies TDX quotes with github.com/google/go-tdx-guest.
//
// It reads a JSON list of jobs on stdin and prints a JSON list of answers: every field of the
// quote as that library sees it, and whether it verifies. tests/interop compares both with ours.
package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"
)

// Job is one quote and what to verify it with. Without collateral, revocation is not checked.
type Job struct {
	Quote      []byte            `json:"quote"`
	Root       []byte            `json:"root"` // DER
	Now        int64             `json:"now"`  // Unix seconds
	Collateral map[string]string `json:"collateral"`
}

// Answer holds bytes as lower-case hex and numbers as numbers.
type Answer struct {
	ParseError  string            `json:"parse_error"`
	VerifyError string            `json:"verify_error"`
	Text        map[string]string `json:"text"`
	Numbers     map[string]uint64 `json:"numbers"`
}

func main() {
	var jobs []Job
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		fmt.Fprintln(os.Stderr, "reading jobs:", err)
		os.Exit(1)
	}
	answers := make([]Answer, 0, len(jobs))
	for _, job := range jobs {
		answers = append(answers, answer(job))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, "printing answers:", err)
		os.Exit(1)
	}
}

func answer(job Job) Answer {
	parsed, err := abi.QuoteToProto(job.Quote)
	if err != nil {
		return Answer{ParseError: err.Error()}
	}
	quote, ok := parsed.(*pb.QuoteV4)
	if !ok {
		return Answer{ParseError: fmt.Sprintf("unexpected type %T", parsed)}
	}
	result := Answer{Text: map[string]string{}, Numbers: map[string]uint64{}}
	result.header(quote)
	result.body(quote.TdQuoteBody)
	result.certification(quote.SignedData)
	if err := verifyQuote(quote, job); err != nil {
		result.VerifyError = err.Error()
	}
	return result
}

func verifyQuote(quote *pb.QuoteV4, job Job) error {
	root, err := x509.ParseCertificate(job.Root)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	options := &verify.Options{TrustedRoots: pool, Now: time.Unix(job.Now, 0)}
	if job.Collateral != nil {
		options.CheckRevocations = true
		options.GetCollateral = true
		options.Getter = collateral(job.Collateral)
	}
	return verify.TdxQuote(quote, options)
}

func (a *Answer) put(name string, value []byte) {
	a.Text[name] = hex.EncodeToString(value)
}

func (a *Answer) header(quote *pb.QuoteV4) {
	header := quote.Header
	a.Numbers["version"] = uint64(header.Version)
	a.Numbers["attestation_key_type"] = uint64(header.AttestationKeyType)
	a.Numbers["tee_type"] = uint64(header.TeeType)
	a.put("reserved", append(append([]byte{}, header.PceSvn...), header.QeSvn...))
	a.put("qe_vendor_id", header.QeVendorId)
	a.put("user_data", header.UserData)
	a.Numbers["signed_data_size"] = uint64(quote.SignedDataSize)
	a.Numbers["trailing_bytes"] = uint64(len(quote.ExtraBytes))
}

func (a *Answer) body(body *pb.TDQuoteBody) {
	a.put("tee_tcb_svn", body.TeeTcbSvn)
	a.put("mr_seam", body.MrSeam)
	a.put("mrsigner_seam", body.MrSignerSeam)
	a.put("seam_attributes", body.SeamAttributes)
	a.put("td_attributes", body.TdAttributes)
	a.put("xfam", body.Xfam)
	a.put("mr_td", body.MrTd)
	a.put("mr_config_id", body.MrConfigId)
	a.put("mr_owner", body.MrOwner)
	a.put("mr_owner_config", body.MrOwnerConfig)
	for index, value := range body.Rtmrs {
		a.put(fmt.Sprintf("rtmr%d", index), value)
	}
	a.put("td_report_data", body.ReportData)
}

func (a *Answer) certification(signed *pb.Ecdsa256BitQuoteV4AuthData) {
	a.put("signature", signed.Signature)
	a.put("attestation_key", signed.EcdsaAttestationKey)
	a.Numbers["certification_type"] = uint64(signed.CertificationData.CertificateDataType)
	data := signed.CertificationData.QeReportCertificationData
	report := data.QeReport
	a.put("qe_cpu_svn", report.CpuSvn)
	a.Numbers["qe_misc_select"] = uint64(report.MiscSelect)
	a.put("qe_attributes", report.Attributes)
	a.put("qe_mr_enclave", report.MrEnclave)
	a.put("qe_mr_signer", report.MrSigner)
	a.Numbers["qe_isv_prod_id"] = uint64(report.IsvProdId)
	a.Numbers["qe_isv_svn"] = uint64(report.IsvSvn)
	a.put("qe_report_data", report.ReportData)
	a.put("qe_report_signature", data.QeReportSignature)
	a.put("qe_auth_data", data.QeAuthData.Data)
	chain := data.PckCertificateChainData
	a.Numbers["nested_type"] = uint64(chain.CertificateDataType)
	a.put("pem_chain", chain.PckCertChain)
	a.pck(chain.PckCertChain)
}

func (a *Answer) pck(chain []byte) {
	leaf, err := firstCertificate(chain)
	if err != nil {
		a.Text["pck_error"] = err.Error()
		return
	}
	found, err := pcs.PckCertificateExtensions(leaf)
	if err != nil {
		a.Text["pck_error"] = err.Error()
		return
	}
	a.Text["pck_ppid"] = found.PPID
	a.Text["pck_pce_id"] = found.PCEID
	a.Text["pck_fmspc"] = found.FMSPC
	a.put("pck_cpu_svn", found.TCB.CPUSvn)
	a.put("pck_components", found.TCB.CPUSvnComponents)
	a.Numbers["pck_pce_svn"] = uint64(found.TCB.PCESvn)
}
