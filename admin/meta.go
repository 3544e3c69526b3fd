package admin

import (
	_ "embed"
	"net/http"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
)

// document is the API in OpenAPI 3.1. A test makes it from the table of routes.
//
//go:embed openapi.json
var document []byte

// Whoami is who the caller is to this hubgate, and which hubgate this is.
type Whoami struct {
	// Name is that of the token, or local.
	Name string `json:"name"`
	Role string `json:"role" enum:"viewer,operator,admin"`
	// ProjectID is the only project whose hubs exist for the caller; without it
	// all do.
	ProjectID string `json:"project_id,omitempty" format:"uuid"`
	// Version is hubgate's.
	Version string `json:"version"`
	// Domain is the one under which SNI names hubs, "" if there is none.
	Domain string `json:"domain"`
	// Region is the one of the Scaleway-compatible API.
	Region string `json:"region"`
}

func (s *Server) metaRoutes() []route {
	return []route{
		{
			method: "GET", path: "/v1/openapi.json", id: "getDocument", summary: "This document",
			answer: map[string]any{}, stream: sendDocument,
		},
		{
			method: "GET", path: "/v1/whoami", id: "whoami", summary: "Show who the caller is, and which hubgate this is",
			role: access.Viewer, answer: exampleWhoami, serve: s.whoami,
		},
	}
}

func (s *Server) whoami(r *http.Request) (any, error) {
	p, _ := access.From(r.Context())
	shown := Whoami{Name: p.Name, Role: p.Role.String(), Version: s.about.Version, Domain: s.about.Domain, Region: s.about.Region}
	if p.Project != uuid.Nil {
		shown.ProjectID = p.Project.String()
	}
	return shown, nil
}

func sendDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document) // the caller hung up
}
