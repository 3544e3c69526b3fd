package admin

import (
	"net/http"

	"github.com/hubgate/hubgate/admin/access"
)

// Claim is a name on a hub's claim list.
type Claim struct {
	Name string `json:"name"`
	// Used: a first connection that needed the claim created a device of that name.
	Used bool `json:"used"`
}

// Claims is a page of a claim list.
type Claims struct {
	Claims []Claim `json:"claims"`
	// Total is how many names are on the list.
	Total int `json:"total"`
	// Next is the cursor of the next page, "" at the end.
	Next string `json:"next,omitempty"`
}

// ClaimNames are names to take off a claim list.
type ClaimNames struct {
	Names []string `json:"names"`
}

// ClaimsRemoved tells how many of them were on it.
type ClaimsRemoved struct {
	Removed int `json:"removed"`
}

// plainText is the media type of an import with nothing but a name on each line.
const plainText = "text/plain"

func (s *Server) claimRoutes() []route {
	const all = "/v1/hubs/{hub}/claims"
	return []route{
		{
			method: "GET", path: all, id: "listClaims",
			summary: "List the names of a hub's claim list, in no order; a page may hold some more than its limit",
			role:    access.Viewer, answer: exampleClaims, serve: s.listClaims, query: []parameter{cursorParameter, limitParameter},
		},
		{
			method: "POST", path: all, id: "importClaims",
			summary: "Put names on a hub's claim list: an object with a name on each line, or as text/plain a name; the answer is that of an import of devices",
			role:    access.Operator, stream: s.importClaims, bodyType: ndjson, body: exampleClaimImport, answerType: ndjson, answer: exampleClaimsImported,
		},
		{
			method: "DELETE", path: all, id: "clearClaims", summary: "Take all names off a hub's claim list",
			role: access.Operator, serve: s.clearClaims,
		},
		{
			method: "POST", path: all + "/remove", id: "removeClaims", summary: "Take up to 1000 names off a hub's claim list, all at once",
			role: access.Operator, body: ClaimNames{Names: []string{"SN-0001"}}, answer: ClaimsRemoved{Removed: 1}, serve: s.removeClaims,
		},
	}
}

func (s *Server) listClaims(r *http.Request) (any, error) {
	limit, err := pageSize(r.URL.Query().Get("limit"))
	if err != nil {
		return nil, err
	}
	cursor, err := openCursor("claims", r.URL.Query().Get("cursor"))
	if err != nil {
		return nil, invalid("cursor: %q is none of a claim list", r.URL.Query().Get("cursor"))
	}
	list, err := s.fleet.Claims(r.Context(), caller(r), r.PathValue("hub"), cursor, limit)
	if err != nil {
		return nil, err
	}
	shown := Claims{Claims: make([]Claim, len(list.Claims)), Total: list.Total, Next: sealCursor("claims", list.Next)}
	for i, c := range list.Claims {
		shown.Claims[i] = Claim(c)
	}
	return shown, nil
}

// importClaims puts names on the list.
func (s *Server) importClaims(w http.ResponseWriter, r *http.Request) {
	parse := readClaim
	switch mediaType(r) {
	case ndjson:
	case plainText:
		parse = func(line []byte) (string, error) { return string(line), nil }
	default:
		s.fail(w, r, &requestError{http.StatusUnsupportedMediaType, "unsupported_media_type",
			"send " + ndjson + ": an object with a name on each line, or " + plainText + ": a name on each line"})
		return
	}
	free, err := s.imports.Take(caller(r))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer free()
	p, _ := access.From(r.Context())
	work, err := s.fleet.ImportClaims(r.Context(), p, r.PathValue("hub"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	(&importer[string]{server: s, work: work, counts: &work.Counts, parse: parse}).serve(w, r)
}

// readClaim reads a line of an import of claims.
func readClaim(line []byte) (string, error) {
	var claim struct {
		Name string `json:"name"`
	}
	if err := strict(line, &claim); err != nil {
		return "", invalid("it is not the JSON that belongs here: %s", fault(err))
	}
	return claim.Name, nil
}

func (s *Server) clearClaims(r *http.Request) (any, error) {
	return nil, s.fleet.ClearClaims(r.Context(), caller(r), r.PathValue("hub"))
}

func (s *Server) removeClaims(r *http.Request) (any, error) {
	var body ClaimNames
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if n := len(body.Names); n < 1 || n > maxPage {
		return nil, invalid("names: %d are given, want 1 to %d", n, maxPage)
	}
	removed, err := s.fleet.RemoveClaims(r.Context(), caller(r), r.PathValue("hub"), body.Names)
	if err != nil {
		return nil, err
	}
	return ClaimsRemoved{removed}, nil
}
