package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// collateral answers the requests the library would send to Intel from the members of the JSON
// that dcap-qvl takes. Nothing is fetched.
type collateral map[string]string

// Get returns headers and body of a response.
func (c collateral) Get(address string) (map[string][]string, []byte, error) {
	switch {
	case strings.Contains(address, "/pckcrl?"):
		body, err := hex.DecodeString(c["pck_crl"])
		return c.chain("Sgx-Pck-Crl-Issuer-Chain", "pck_crl_issuer_chain"), body, err
	case strings.Contains(address, "/tcb?fmspc="):
		body := c.signed("tcbInfo", "tcb_info")
		return c.chain("Tcb-Info-Issuer-Chain", "tcb_info_issuer_chain"), body, nil
	case strings.HasSuffix(address, "/qe/identity"):
		body := c.signed("enclaveIdentity", "qe_identity")
		return c.chain("Sgx-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"), body, nil
	default: // the distribution point that the root certificate names
		body, err := hex.DecodeString(c["root_ca_crl"])
		return nil, body, err
	}
}

// signed keeps the exact text of the document: the signature covers it.
func (c collateral) signed(name, member string) []byte {
	return []byte(fmt.Sprintf(`{%q:%s,"signature":%q}`, name, c[member], c[member+"_signature"]))
}

func (c collateral) chain(header, member string) map[string][]string {
	return map[string][]string{header: {url.QueryEscape(c[member])}}
}

func firstCertificate(chain []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}
