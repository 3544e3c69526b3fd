package admin

import (
	"time"

	"github.com/hubgate/hubgate/provision"
)

// Examples of the OpenAPI document. What they are of is its schema.

var (
	exampleTime = time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)

	exampleWhoami = Whoami{Name: "ci", Role: "operator", Version: "1.0.0", Domain: "iot.example.com", Region: "fr-par"}

	exampleCertificate = Certificate{
		Subject: "CN=Factory CA,O=Example", Issuer: "CN=Factory CA,O=Example", Serial: "3a1f",
		NotBefore: exampleTime, NotAfter: exampleTime.AddDate(10, 0, 0),
		Fingerprint: "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592",
	}

	exampleHub = Hub{
		ID: "0b7d5c1e-7f7e-4f0c-9d3e-0c1f6f6f1d11", Name: "factory", Status: "ready", Enabled: true, AutoProvisioning: true,
		HasOwnCA: true, TrustAnchors: []Certificate{exampleCertificate}, Intermediates: []Certificate{},
		Devices: 1250, ConnectedDevices: 1180, CreatedAt: &exampleTime, UpdatedAt: &exampleTime,
		Policy: showPolicy(provision.Policy{Admission: []provision.AdmissionRule{{NamePattern: "SN-[0-9]{4}", Claims: provision.ClaimListed}}}),
	}

	exampleTrue = true

	examplePEM = "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"

	exampleAnchor = Anchor{
		Certificate: exampleCertificate, Key: exampleKey, AddedAt: &exampleTime, AddedBy: "ci", Devices: 1250, ExpiresInDays: 3650,
	}

	exampleIntermediate = Intermediate{Certificate: exampleCertificate, Source: "uploaded"}

	exampleKey = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

	exampleRevocation = Revocation{
		ID: "6d1f0a2c9be34d5e8a7b61c0d2f3e495", Serial: "3a1f", Issuer: exampleKey, Reason: "stolen", By: "ci", At: exampleTime,
	}

	exampleCRL = CRL{
		Issuer: exampleKey, Name: "CN=Factory Line 1", Number: "42", ThisUpdate: exampleTime, NextUpdate: exampleTime.AddDate(0, 0, 7),
		Current: true, Entries: 3, AddedAt: exampleTime, Sources: []string{"https://ca.example.com/line-1.crl"},
	}

	exampleDevice = Device{
		ID: "5f3a9c1e-1c7b-8a52-b0d4-3e9a51c0f7aa", HubID: exampleHub.ID, Name: "SN-0001",
		Description: "Auto-provisioned by 192.0.2.7", Status: "enabled", Enabled: true, ProvisionedFrom: "192.0.2.7",
		FirstKey: exampleKey, CurrentKey: exampleKey, Anchor: exampleKey, Issuer: exampleKey,
		IsConnected: true, LastActivityAt: &exampleTime, Version: 1, CreatedAt: exampleTime, UpdatedAt: exampleTime,
	}

	exampleSecret = DeviceSecret{ //nolint:gosec // an example
		DeviceID: exampleDevice.ID, UserName: exampleHub.Name + "/" + exampleDevice.Name,
		Secret: "Vt6mY3qk0m2r1nB7x9eQ4uJ5cZ8sWdLpTfGhKvRaXyM", AllowInsecure: true,
	}

	exampleSession = Session{
		ID: "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", HubID: exampleHub.ID, HubName: exampleHub.Name,
		DeviceID: exampleDevice.ID, DeviceName: exampleDevice.Name, Protocol: "tcp", Source: "192.0.2.7",
		Node: "edge-1", Connection: 42, Confirmed: true, CanBeEnded: true, Since: exampleTime, LastActivityAt: exampleTime,
	}

	exampleQuestion = Question{
		Chain: "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n", SNI: "factory.iot.example.com", Protocol: "tcp",
	}

	exampleExplanation = Explanation{
		Decision: "deny", Reason: "certificate_expired", Message: "the device certificate has expired",
		HubID: exampleHub.ID, HubName: exampleHub.Name, Certificate: &exampleCertificate,
		Steps: []Step{{Name: "verify the chain", Detail: "expired on 2026-11-25"}},
	}

	exampleEvents = "id: 12:7\ndata: {\"id\":\"…\",\"severity\":\"info\",\"object-type\":\"device\",\"object-name\":\"SN-0001\",\"msg\":\"device was auto-provisioned\"}\n\n"

	exampleImport = `{"name":"SN-0001"}
{"name":"SN-0002","enabled":false,"disabled_reason":"stolen"}
{"nmae":"SN-0003"}
`
	exampleImported = `{"line":3,"error":"invalid","message":"it is not the JSON that belongs here: unknown field \"nmae\""}
{"through":3,"counts":{"created":2,"updated":0,"unchanged":0,"refused":1,"still_disabled":0}}
{"through":3,"counts":{"created":2,"updated":0,"unchanged":0,"refused":1,"still_disabled":0},"done":true}
`
	exampleExport = `{"id":"5f3a9c1e-1c7b-8a52-b0d4-3e9a51c0f7aa","hub_id":"0b7d5c1e-7f7e-4f0c-9d3e-0c1f6f6f1d11","name":"SN-0001","description":"","enabled":true,"allow_insecure":false,"allow_multiple_connections":false,"message_filters":null,"created_at":"2026-11-26T09:30:00Z","updated_at":"2026-11-26T09:30:00Z"}
`

	exampleClaims = Claims{Claims: []Claim{{Name: "SN-0001", Used: true}, {Name: "SN-0002"}}, Total: 2}

	exampleClaimImport = `{"name":"SN-0001"}
{"name":"SN-0002"}
`
	exampleClaimsImported = `{"through":2,"counts":{"created":2,"updated":0,"unchanged":0,"refused":0,"still_disabled":0}}
{"through":2,"counts":{"created":2,"updated":0,"unchanged":0,"refused":0,"still_disabled":0},"done":true}
`

	exampleNewToken = NewToken{Name: "ci", Role: "operator"}

	exampleToken = Token{ID: "c2a6f8d4-6f52-4b0e-9f0b-6a1d0d0f2b11", Name: "ci", Role: "operator", CreatedAt: exampleTime}

	exampleMade = Token{ //nolint:gosec // an example
		ID: exampleToken.ID, Name: "ci", Role: "operator", CreatedAt: exampleTime, Secret: "1d2c3b4a-0f1e-4d2c-8b3a-9f8e7d6c5b4a",
	}
)
