package provision

// Reason is the stable code of a decision's outcome: metric label, log field
// and part of the response body. Codes are never renamed.
type Reason string

// The reasons, in the order in which a check can meet them.
const (
	NoCertificate          Reason = "no_certificate"
	InsecureNotAllowed     Reason = "insecure_not_allowed"
	SecretInvalid          Reason = "secret_invalid"
	ListenerMisconfigured  Reason = "listener_misconfigured"
	Overloaded             Reason = "overloaded"
	CertificateMalformed   Reason = "certificate_malformed"
	CertificateUnsupported Reason = "certificate_unsupported"
	HubUnknown             Reason = "hub_unknown"
	HubAmbiguous           Reason = "hub_ambiguous"
	AuthorityMismatch      Reason = "authority_mismatch"
	HubDisabled            Reason = "hub_disabled"
	ChainIncomplete        Reason = "chain_incomplete"
	ChainUntrusted         Reason = "chain_untrusted"
	CertificateExpired     Reason = "certificate_expired"
	CertificateNotYetValid Reason = "certificate_not_yet_valid"
	CertificateWrongUsage  Reason = "certificate_wrong_usage"
	CertificateRevoked     Reason = "certificate_revoked"
	RevocationUnknown      Reason = "revocation_unknown"
	NameInvalid            Reason = "name_invalid"
	DeviceDisabled         Reason = "device_disabled"
	DeviceIssuerChanged    Reason = "device_issuer_changed"
	DeviceKeyChanged       Reason = "device_key_changed"
	DeviceUnknown          Reason = "device_unknown"
	DeviceNotAllowed       Reason = "device_not_allowed"
	HookDenied             Reason = "hook_denied"
	HookUnavailable        Reason = "hook_unavailable"
	DeviceAlreadyConnected Reason = "device_already_connected"
	QuotaExceeded          Reason = "quota_exceeded"
	RateLimited            Reason = "rate_limited"
	DeviceKnown            Reason = "device_known"
	DeviceProvisioned      Reason = "device_provisioned"
	StoreUnavailable       Reason = "store_unavailable"
	Internal               Reason = "internal"
)

// Outcome is what a reason means for the connection.
type Outcome uint8

// Fault is the zero value: a reason nobody thought of is our fault, and refused.
const (
	// Fault: hubgate or its set-up failed; the device is not to blame.
	Fault Outcome = iota
	// Deny: the connection is refused on purpose.
	Deny
	// Allow: the connection goes on.
	Allow
)

// String is the outcome's metric label.
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	default:
		return "error"
	}
}

// reasons is the one table of reasons: what each means for the connection, the
// fixed sentence a device may see, and what an operator can do about it.
var reasons = map[Reason]struct {
	outcome Outcome
	message string
	remedy  string
}{
	NoCertificate: {Deny, "mutual TLS authentication is required",
		"Make the device present its factory certificate in the TLS handshake."},
	InsecureNotAllowed: {Deny, "mutual TLS authentication is required",
		"Connect with the factory certificate over TLS; or allow the device to do without (allow_insecure), and create a secret for it."},
	SecretInvalid: {Deny, "the device's secret is not valid",
		"Give the device its secret again: `hubgate device secret create` makes a new one, which ends the old one."},
	ListenerMisconfigured: {Fault, "the listener is misconfigured",
		"Compare Envoy's listener with what `hubgate envoy config` prints: include_peer_certificate, SANITIZE_SET and initial_metadata have to be there."},
	Overloaded: {Fault, "the service is overloaded",
		"Add replicas or raise authz.max_in_flight; a hub whose admission hook answers slowly may be what takes the places of first connections."},
	CertificateMalformed: {Deny, "the device certificate cannot be read",
		"Read the device's chain with `openssl x509 -text`; a certificate in it is broken."},
	CertificateUnsupported: {Deny, "the device certificate is not supported",
		"Use P-256, P-384, P-521, Ed25519 or RSA 2048 to 4096 keys with SHA-256 or better, at most 10 certificates and 64 KiB."},
	HubUnknown: {Deny, "could not identify device",
		"Check the hub name in SNI, or install the device's CA on its hub."},
	HubAmbiguous: {Deny, "the hub is ambiguous",
		"More than one hub trusts this chain: let the device name its hub in SNI, or set `hub` on Envoy's listener."},
	AuthorityMismatch: {Deny, "the requested authority belongs to another hub",
		"The request's host names another hub than the connection's SNI or certificate: use the same hub name in both."},
	HubDisabled: {Deny, "hub is not ready",
		"Enable the hub."},
	ChainIncomplete: {Deny, "the certificate chain is incomplete",
		"Upload the missing intermediate to the hub (`intermediates`), or make the device send its whole chain over HTTPS once; a custom certificate counts only with policy.custom_certificates, on a hub that SNI or the listener names."},
	ChainUntrusted: {Deny, "the certificate chain is not trusted",
		"The chain does not lead to a CA of this hub: check which vendor CA signed it, and that this CA is installed on the hub; a custom certificate counts only with policy.custom_certificates, on a hub that SNI or the listener names."},
	CertificateExpired: {Deny, "a certificate of the chain has expired",
		"Replace the expired certificate; if it is the hub's CA, install its successor."},
	CertificateNotYetValid: {Deny, "a certificate of the chain is not yet valid",
		"Check the clocks of the vendor's line and of this host."},
	CertificateWrongUsage: {Deny, "the certificate is not made for client authentication",
		"Ask the vendor for leaf certificates that are no CA and carry digitalSignature and clientAuth."},
	CertificateRevoked: {Deny, "a certificate of the chain is revoked",
		"If that is wrong, see `hubgate cert list` and `hubgate crl list`; a certificate that a CRL lists is valid again only once its CA says so."},
	RevocationUnknown: {Deny, "whether the certificate is revoked is not known",
		"The hub refuses without a current CRL (`revocation: refuse`): see `hubgate crl list` for what is missing or overdue, and upload a list with `hubgate crl add`."},
	NameInvalid: {Deny, "could not identify device",
		"The leaf needs exactly one common name of 1 to 64 printable ASCII characters without edge spaces and / + # $."},
	DeviceDisabled: {Deny, "device is not enabled",
		"Enable the device with `hubgate device enable` if it should connect."},
	DeviceIssuerChanged: {Deny, "the device is known under another certificate authority",
		"Another CA than the one that admitted this device signed its chain. If that is right, delete the device and let it provision again."},
	DeviceKeyChanged: {Deny, "the device is known with another key",
		"The device came with another key than its own: if it has a custom certificate, replace or remove that (`hubgate device certificate`); else the hub's key policy kept it out, so under `approve` let the key in with `hubgate device approve`, and under `pin` delete the device and let it provision again."},
	DeviceUnknown: {Deny, "could not identify device",
		"Turn on auto_provisioning on the hub to let unseen devices create themselves."},
	DeviceNotAllowed: {Deny, "the device may not provision itself",
		"The log says which of the hub's admission rules the device did not meet: if it should connect, change the rule, add its name to the claim list (`hubgate claim import`), or create the device."},
	HookDenied: {Deny, "the device may not provision itself",
		"The hub's admission hook refused the device; the log has what it said."},
	HookUnavailable: {Fault, "the service is temporarily unavailable",
		"The hub's admission hook did not answer as it should within a second; the log says how. Known devices connect meanwhile."},
	DeviceAlreadyConnected: {Deny, "device is already connected",
		"Another connection of this device is open, and the hub refuses a second one (`connections: reject`): end it with `hubgate session end`; one of an Envoy that died ends by itself."},
	QuotaExceeded: {Deny, "the hub takes no more devices",
		"The hub has as many devices as its policy allows: delete those that are gone, or raise max_devices. Known devices get in."},
	RateLimited: {Deny, "too many unknown devices connect",
		"First connections come faster than the hub's first_connections_per_second: devices get in when they try again. Or too many certificates of the device's network were refused (authz.failures_per_minute): the detail says which. If no rollout explains it, look at who connects."},
	DeviceKnown:       {Allow, "device is known", ""},
	DeviceProvisioned: {Allow, "device was auto-provisioned", ""},
	StoreUnavailable: {Fault, "the service is temporarily unavailable",
		"The store does not answer: check hubgate_store_up and the log; known devices are served from the cache."},
	Internal: {Fault, "the service failed",
		"Find the decision ID in hubgate's log and report the bug."},
}

// Reasons returns every reason code there is.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasons))
	for r := range reasons {
		all = append(all, r)
	}
	return all
}

// Outcome says what the reason means for the connection. An unknown reason is
// a Fault.
func (r Reason) Outcome() Outcome { return reasons[r].outcome }

// Message is the fixed sentence that a device may see.
func (r Reason) Message() string { return reasons[r].message }

// Remedy tells an operator what to do; empty where nothing is to be done.
func (r Reason) Remedy() string { return reasons[r].remedy }
