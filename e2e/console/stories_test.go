package console

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/hubgate/hubgate/internal/pki"
)

// TestConsole tells what people do with the page. The stories share the
// processes, and go one by one: a tab in the background draws late.
func TestConsole(t *testing.T) {
	w := newWorld(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *world)
	}{
		{"log in", logIn},
		{"from nothing to a device", fromNothing},
		{"a trust anchor's end", retire},
		{"another key", anotherKey},
		{"declared hub", declaredHub},
		{"viewer", viewer},
		{"keyboard", keyboard},
		{"hostile names", hostileNames},
		{"ten thousand devices", tenThousand},
		{"explain", explain},
		{"restart", restart},
		{"token withdrawn", withdrawn},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(t, w) })
	}
}

func logIn(t *testing.T, w *world) {
	p := openPage(t, w.url)
	p.expect("401")
	p.sees("h1", "Log in to hubgate")
	for _, wrong := range []string{"0b7d5c1e-3f7e-4a53-9a52-0c1f6f1f2a10", "clé", w.token + "0"} {
		p.fill("#token", wrong)
		p.click("button[type=submit]", "Log in")
		p.sees(".notice.error", "token")
		p.run(`document.querySelector(".notice").remove()`)
	}
	p.login(w.token)
	// The token is the tab's alone: it is on no disk, and in no cookie.
	if kept := eval[string](p, `JSON.stringify([Object.values(sessionStorage).length, localStorage.length, document.cookie])`); kept != `[1,0,""]` {
		t.Errorf("kept: %s", kept)
	}
	p.reload()
	p.sees("h1", "Hubs")
	p.click("#logout", "Log out")
	p.sees("h1", "Log in")
	p.reload()
	p.sees("h1", "Log in")
	if n := eval[int](p, `sessionStorage.length`); n != 0 {
		t.Errorf("after logging out %d things are kept", n)
	}
}

// fromNothing is the page's reason to be: a hub, its CA with its proof, the
// switch, and a device that nobody registered.
func fromNothing(t *testing.T, w *world) {
	p := openPage(t, w.url)
	p.login(w.token)
	p.click("#create-hub", "Create hub")
	p.fill("dialog input", "factory")
	p.press(kb.Enter)
	p.sees("h1", "factory")

	// No CA yet: the switch says what is missing.
	p.click("#provisioning", "")
	p.sees(".cannot", "This hub has no trust anchor yet")
	p.on(false)

	// The commands on the page are those that work.
	root := must(pki.NewRoot("Acme Device Root CA"))(t)
	key := must(pki.EncodeKey(root.Key))(t)
	w.write(t, "ca.pem", pki.EncodeCertificates(root.Certificate))
	w.write(t, "ca.key", key)
	p.sees(".command code", "openssl x509 -req")
	for i, text := range eval[[]string](p, `[...document.querySelectorAll(".command code")].map(e => e.textContent)`) {
		shell := exec.CommandContext(t.Context(), "bash", "-euc", text)
		shell.Dir = w.dir
		shell.Env = append(shell.Environ(), "PATH="+w.dir+":/usr/bin:/bin")
		if out, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("command %d: %v\n%s\n%s", i+1, err, text, out)
		}
	}
	certificate := string(pki.EncodeCertificates(root.Certificate))
	p.fill("#anchor-certificate", certificate)
	p.screenshot("console-add-anchor")
	p.fill("#anchor-challenge", string(key))
	p.click("#anchor-submit", "Add trust anchor")
	p.sees(".notice.error", "That holds a private key")
	p.fill("#anchor-challenge", certificate)
	p.expect("400")
	p.click("#anchor-submit", "Add trust anchor")
	p.lacks(".notice.error", "private key")
	p.sees(".notice.error", "hub")
	p.fill("#anchor-challenge", string(w.read(t, "challenge.pem")))
	p.click("#anchor-submit", "Add trust anchor")
	p.sees(".anchor h2", "CN=Acme Device Root CA")
	p.sees(".anchor .badge", "days left")

	p.click("#tab-devices", "Devices")
	p.click("#provisioning", "")
	p.on(true)
	p.sees(".live", "Live")
	f := &fleet{world: w, name: "factory", root: root}
	chip := f.device(t, "SN-0001")
	open := f.connect(t, chip)
	p.sees("tr.fresh th", "SN-0001")
	p.sees("tr.fresh .dot.on", "Connected")
	p.sees(".facts", "Devices1Connected1")
	f.connect(t, f.device(t, "SN-0002"))
	f.connect(t, f.device(t, "SN-0003"))
	p.sees("tr.fresh th", "SN-0003")
	p.sees(`tr.fresh:nth-child(2) .dot.on`, "Connected")
	p.sees(".facts", "Devices3Connected3")
	p.screenshot("console-devices")

	// Disabling is the ban.
	p.click("tr th a", "SN-0001")
	p.sees("dialog.device", "Enabled")
	p.screenshot("console-device")
	p.click("#device-disable", "Disable")
	p.sees("dialog", "ends its connections and refuses new ones")
	p.click("dialog button.danger.solid", "Disable")
	open.ends(t)
	p.sees("dialog.device .badge", "Disabled")
	p.sees("dialog.device .dot", "Not connected")
	if _, err := f.dial(chip); err == nil {
		t.Error("a disabled device got in")
	}
	p.click("#device-enable", "Enable")
	p.click("dialog button.primary", "Enable")
	p.sees("dialog.device .badge", "Enabled")
	open = f.connect(t, chip)
	p.until("it is seen as connected", `document.querySelector("#device-end:enabled")`)
	p.click("#device-end", "End connections")
	p.click("dialog button.primary", "End connections")
	open.ends(t)

	// Deleting is none. The row that goes may just be read anew.
	p.expect("404")
	p.click("#device-delete", "Delete")
	p.sees("dialog", "It is no ban")
	p.click("dialog button.danger.solid", "Delete")
	p.lacks("tr th", "SN-0001")
	f.connect(t, chip)
	p.sees("tr.fresh th", "SN-0001")

	// The events told all of it.
	p.click("#tab-events", "Events")
	for _, text := range []string{"device was auto-provisioned", "device was disabled", "device was enabled", "device was disconnected", "device was deleted", "hub was updated"} {
		p.sees("table.events .message", text)
	}
	p.screenshot("console-events")
	p.choose("#event-severity", "error")
	p.lacks("table.events .message", "device was deleted")

	// Off: who is known stays, who is not is refused.
	p.click("#provisioning", "")
	p.on(false)
	if _, err := f.dial(f.device(t, "SN-0009")); err == nil {
		t.Error("with auto-provisioning off an unknown device got in")
	}
}

func retire(t *testing.T, w *world) {
	f := w.fleet(t, "old-line", true)
	open := f.connect(t, f.device(t, "SN-1"))
	p := openPage(t, w.url)
	p.expect("409")
	p.login(w.token)
	p.to("#/hubs/old-line/anchors")
	p.sees(".anchor", "Proof waived")
	p.sees(".anchor", "1 device last admitted by it")
	p.click(".anchor button", "Retire")
	p.sees("dialog", "their connections end")
	p.click("dialog button.danger.solid", "Retire")
	p.sees("dialog .notice.error", "auto-provisioning") // on a hub without a CA there is none
	p.press(kb.Escape)
	p.click("#provisioning", "")
	p.on(false)
	p.click(".anchor button", "Retire")
	p.click("dialog button.danger.solid", "Retire, and end 1 device")
	p.sees(".empty", "No trust anchor yet")
	open.ends(t)
}

// anotherKey: where a hub asks for it, an operator lets a device in with a new
// key, and sees which certificate of its own a device has.
func anotherKey(t *testing.T, w *world) {
	f := w.fleet(t, "approving", true)
	w.api(t, http.MethodPatch, "hubs/approving", map[string]any{"policy": map[string]any{"keys": "approve", "custom_certificates": true}}, nil)
	first, second := f.device(t, "SN-0001"), f.device(t, "SN-0001")
	open := f.connect(t, first)
	p := openPage(t, w.url)
	p.login(w.token)
	p.to("/hubs/approving/devices")
	p.click("tr th a", "SN-0001")
	p.sees("dialog.device", "Connected")
	p.lacks("dialog.device dt", "Key to approve")
	if _, err := f.dial(second); err == nil {
		t.Fatal("a key that nobody approved got in")
	}
	p.sees("dialog.device dt", "Key to approve")
	p.click("#device-approve", "Approve key")
	p.sees("dialog", "gets in with that")
	p.click("dialog button.primary", "Approve")
	p.lacks("dialog.device dt", "Key to approve")
	f.connect(t, second)
	open.ends(t)
	if _, err := f.dial(first); err == nil {
		t.Error("the key before got in")
	}

	own := must(must(pki.NewRoot("Anybody"))(t).Leaf("SN-0001"))(t)
	w.api(t, http.MethodPut, "hubs/approving/devices/SN-0001/certificate",
		map[string]string{"certificate": string(pki.EncodeCertificates(own.Certificate))}, nil)
	p.sees("dialog.device dt", "Custom certificate")
	p.sees("dialog.device .badge", "days left")
}

func declaredHub(t *testing.T, w *world) {
	p := openPage(t, w.url)
	p.login(w.token)
	p.click("tr th a", declared)
	p.sees(".cannot", "hubgate.yaml")
	p.click("#provisioning", "")
	p.on(false)
	p.sees("#announcer", "This hub is declared in hubgate.yaml")
	p.click("#tab-anchors", "Trust anchors")
	p.sees(".toolbar", "hubgate.yaml")
	p.disabled("#add-anchor")
	p.click("#tab-settings", "Settings")
	p.disabled("#hub-enabled")
	p.disabled("#hub-delete")
}

// viewer sees everything, can change nothing, and is told why.
func viewer(t *testing.T, w *world) {
	f := w.fleet(t, "looked-at", true)
	f.connect(t, f.device(t, "SN-1"))
	var made struct{ Secret string }
	w.api(t, http.MethodPost, "tokens", map[string]any{"name": "eyes", "role": "viewer"}, &made)
	p := openPage(t, w.url)
	p.login(made.Secret)
	p.sees(".who", "viewer")
	p.lacks("button", "Create hub")
	p.click("tr th a", "looked-at")
	p.sees(".cannot", "needs the role operator; this token is viewer")
	p.click("#provisioning", "")
	p.on(true)
	p.click("tr th a", "SN-1")
	for _, id := range []string{"#device-disable", "#device-end", "#device-delete"} {
		p.disabled(id)
	}
	p.sees("dialog .hint", "needs the role operator")
	p.press(kb.Escape)
	p.click("#tab-anchors", "Trust anchors")
	p.sees(".anchor h2", "CN=Root of looked-at")
	p.disabled("#add-anchor")
	p.lacks(".anchor button", "Retire")
	p.click("#tab-explain", "Explain")
	p.disabled("#explain-submit")
	p.click("#tab-settings", "Settings")
	p.disabled("#hub-enabled")
	p.disabled("#hub-delete")
}

// keyboard walks the page without a mouse.
func keyboard(t *testing.T, w *world) {
	f := w.fleet(t, "by-hand", false)
	p := openPage(t, w.url)
	p.sees("h1", "Log in")
	p.focused("#token") // at once
	p.keys(w.token)
	p.press(kb.Enter)
	p.sees("h1", "Hubs")
	p.sees("tr th a", "by-hand")
	p.tabTo(`tr th a[href$="by-hand"]`)
	p.press(kb.Enter)
	p.sees("h1", "by-hand")
	p.until("the heading has focus", `document.activeElement.tagName === "H1"`)
	p.tabTo("#provisioning")
	if style := eval[string](p, `getComputedStyle(document.activeElement).outlineStyle`); style != "solid" {
		t.Errorf("focus is not visible: outline %s", style)
	}
	p.press(" ")
	p.on(true)
	p.focused("#provisioning") // still
	for i := range 3 {
		f.connect(t, f.device(t, fmt.Sprintf("SN-%d", i)))
		p.sees("tr th a", fmt.Sprintf("SN-%d", i))
	}
	p.tabTo("tr th a")
	p.press(kb.ArrowDown, kb.ArrowDown, kb.ArrowUp)
	p.focused("tr.fresh:nth-child(3) th a") // the space above them is a row, too
	p.press(kb.Enter)
	p.sees("dialog.device", "Device ID")
	for range 12 { // the dialog holds it
		p.press(kb.Tab)
		if eval[bool](p, `document.activeElement !== document.body && !document.activeElement.closest("dialog")`) {
			t.Fatal("focus left the dialog")
		}
	}
	p.tabTo("#device-disable")
	p.press(kb.Enter)
	p.sees("dialog", "This is how a device is banned")
	p.press(kb.Enter) // does nothing yet: a key that is held must not
	p.tabTo("dialog button.danger.solid")
	p.press(kb.Enter)
	p.sees("dialog.device .badge", "Disabled")
	p.press(kb.Escape)
	p.until("the dialog is gone", `!document.querySelector("dialog")`)
	p.focused("tr.fresh:nth-child(3) th a")
	p.sees("tr.fresh .badge.error", "Disabled")
	p.tabBackTo("#tab-events")
	p.press(kb.Enter)
	p.sees("table.events", "device was disabled")
	p.focused("#tab-events")
	p.tabTo("#event-severity")

	// From the start of the page one key leads past its head.
	p.reload()
	p.sees("table.events", "device was disabled")
	p.run(`document.activeElement.blur(); getSelection().removeAllRanges(); document.body.tabIndex = -1; document.body.focus()`)
	p.press(kb.Tab)
	p.focused("#skip")
	p.press(kb.Enter)
	p.focused("#main")
	p.press(kb.Tab)
	p.focused(".crumbs a")
}

// hostileNames come from devices, vendors and people who would like to have
// their script run by an administrator.
func hostileNames(t *testing.T, w *world) {
	const name = `<img src=x onerror=alert(1)>`
	const text = `<script>document.title="owned"</script><a href="javascript:alert(1)">x</a>`
	f := w.fleet(t, "hostile", true)
	evil := must(pki.NewRoot(`"><svg onload=alert(2)>`))(t)
	w.api(t, http.MethodPost, "hubs/hostile/anchors", map[string]any{
		"certificate": string(pki.EncodeCertificates(evil.Certificate)), "waive_proof": true, "waiver_reason": text,
	}, nil)
	p := openPage(t, w.url)
	p.login(w.token)
	p.to("#/hubs/hostile/devices")
	p.sees(".live", "Live")
	f.connect(t, f.device(t, name))
	p.sees("tr.fresh th a", name)
	var list struct{ Devices []struct{ ID string } }
	w.api(t, http.MethodGet, "hubs/hostile/devices", nil, &list)
	w.api(t, http.MethodPatch, "hubs/hostile/devices/"+list.Devices[0].ID, map[string]any{"description": text}, nil)
	p.click("tr th a", name)
	p.sees("dialog h2", name)
	p.sees("dialog .description", text)
	p.press(kb.Escape)
	p.click("#tab-events", "Events")
	p.sees("table.events .object", name)
	p.click("#tab-anchors", "Trust anchors")
	p.sees(".anchor h2", `svg onload=alert(2)`)
	p.sees(".anchor dd", text)
	p.click("#tab-explain", "Explain")
	p.fill("#explain-chain", string(pki.EncodeCertificates(must(evil.Leaf(name))(t).Certificate)))
	p.click("#explain-submit", "Explain")
	p.sees(".verdict", "alert(1)")
	p.to("#/hubs/" + `%3Cimg%20src%3Dx%20onerror%3Dalert(3)%3E`)
	p.expect("404")
	p.sees(".notice.error", "not found")
	if n := eval[int](p, `document.querySelectorAll('img[src="x"], svg, script:not([src]), a[href^="javascript:"]').length`); n != 0 {
		t.Errorf("%d elements came from names", n)
	}
	if title := eval[string](p, `document.title`); title == "owned" {
		t.Error("a script from a description ran")
	}
}

// tenThousand devices cost the document no more rows than fit the window.
func tenThousand(t *testing.T, w *world) {
	const many = 10_000
	w.fleet(t, "large", true)
	var lines strings.Builder
	for i := range many {
		fmt.Fprintf(&lines, `{"name":"SN-%06d","enabled":%t}`+"\n", i, i%100 != 7)
	}
	w.api(t, http.MethodPost, "hubs/large/devices/import", lines.String(), nil)
	p := openPage(t, w.url)
	p.login(w.token)
	p.to("#/hubs/large")
	p.sees("#device-summary", "200 of 10,000 devices loaded")
	bounded := func() {
		t.Helper()
		if n := eval[int](p, `document.querySelectorAll("table.devices tr").length`); n > 60 {
			t.Errorf("the document holds %d rows", n)
		}
		if n := eval[int](p, `document.querySelectorAll("*").length`); n > 1000 {
			t.Errorf("the document holds %d elements", n)
		}
	}
	bounded()
	p.click("thead th", "Name")
	p.run(`document.querySelector(".rows").focus()`)
	p.tabTo("tr th a")
	for _, loaded := range []string{"400", "600", "800"} {
		p.press(kb.End)
		p.sees("#device-summary", loaded+" of 10,000 devices loaded")
		bounded()
	}
	// By hand to the end: what was scrolled past is not kept in the document.
	p.until("everything was scrolled through", `(() => {
		const rows = document.querySelector(".rows");
		rows.scrollTop = rows.scrollHeight;
		return document.querySelector("#device-summary").textContent === "10,000 devices";
	})()`)
	p.until("the last is in view", `document.querySelector("tr[data-device]:nth-last-child(2) th").textContent.startsWith("SN-009999")`)
	bounded()
	p.fill("#device-search", "SN-0012")
	p.sees("#device-summary", "100 devices found")
	p.choose("#device-state", "false")
	p.sees("#device-summary", "1 device found")
	p.sees("tr th a", "SN-001207")
	bounded()
	p.fill("#device-search", "nobody")
	p.sees(".empty", "No device matches")
}

func explain(t *testing.T, w *world) {
	f := w.fleet(t, "asked", true)
	line := must(f.root.Intermediate("Line 7"))(t)
	p := openPage(t, w.url)
	p.login(w.token)
	p.to("#/hubs/asked/explain")
	leaf := must(line.Leaf("SN-1"))(t)
	p.fill("#explain-chain", string(pki.EncodeCertificates(leaf.Certificate)))
	p.fill("#explain-sni", "asked."+domain)
	p.click("#explain-submit", "Explain")
	p.sees(".verdict.deny", "chain_incomplete")
	p.sees(".verdict .notice", "What to do")
	p.sees(".verdict", "Line 7")
	p.sees(".steps .failed", "failed")
	p.screenshot("console-explain")
	p.fill("#explain-chain", string(pki.EncodeCertificates(leaf.Chain...)))
	p.click("#explain-submit", "Explain")
	p.sees(".verdict.allow", "device_provisioned")
	p.expect("400")
	p.fill("#explain-source", "nowhere")
	p.click("#explain-submit", "Explain")
	p.sees(".notice.error", "is no IP address")
	var list struct{ Devices []any }
	w.api(t, http.MethodGet, "hubs/asked/devices", nil, &list)
	if len(list.Devices) != 0 {
		t.Errorf("explaining created %v", list.Devices)
	}
}

// restart takes hubgate away: the page says so, comes back by itself, and
// misses nothing.
func restart(t *testing.T, w *world) {
	f := w.fleet(t, "steady", true)
	p := openPage(t, w.url)
	p.expect("ERR_") // what a browser says of a server that is away
	p.login(w.token)
	p.to("#/hubs/steady")
	p.sees(".live", "Live")
	f.connect(t, f.device(t, "SN-before"))
	p.sees("tr.fresh th", "SN-before")
	w.hubgate.Kill()
	p.sees(".live", "Reconnecting")
	w.serve(w.t)
	p.sees(".live", "Live")
	f.connect(t, f.device(t, "SN-after"))
	p.sees("tr.fresh th", "SN-after")
}

// withdrawn: a token that is no longer accepted leads back to the log-in.
func withdrawn(t *testing.T, w *world) {
	var made struct{ ID, Secret string }
	w.api(t, http.MethodPost, "tokens", map[string]any{"name": "short", "role": "operator"}, &made)
	p := openPage(t, w.url)
	p.expect("401")
	p.login(made.Secret)
	p.to("#/hubs/" + declared)
	p.sees("h1", declared)
	w.api(t, http.MethodDelete, "tokens/"+made.ID, nil, nil)
	p.click("#tab-anchors", "Trust anchors")
	p.sees(".notice", "no longer accepted")
	if n := eval[int](p, `sessionStorage.length`); n != 0 {
		t.Errorf("%d things are still kept", n)
	}
}
