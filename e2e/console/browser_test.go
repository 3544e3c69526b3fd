package console

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience bounds each step: many servers share few cores.
const patience = 60 * time.Second

// browser is one headless Chromium for all tests, each in a tab whose storage
// is its own.
var browser = struct {
	sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	err    error
}{}

// startBrowser starts Chromium with a fresh profile and without what it does
// unasked on the network.
func startBrowser() (context.Context, error) {
	browser.Do(func() {
		var path string
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if path, browser.err = exec.LookPath(name); browser.err == nil {
				break
			}
		}
		if browser.err != nil {
			browser.err = fmt.Errorf("chromium is missing; install it with: apt-get install chromium: %w", browser.err)
			return
		}
		allocator, end := chromedp.NewExecAllocator(context.Background(),
			chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
			chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
			chromedp.Flag("disable-default-apps", true), chromedp.Flag("disable-extensions", true),
			chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"), chromedp.Flag("hide-scrollbars", true),
			chromedp.Env("TZ=Europe/Paris", "LANGUAGE=en_GB"),
		)
		ctx, cancel := chromedp.NewContext(allocator)
		browser.ctx, browser.cancel = ctx, func() { cancel(); end() }
		browser.err = chromedp.Do(ctx)
	})
	return browser.ctx, browser.err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if browser.cancel != nil {
		browser.cancel()
	}
	os.Exit(code)
}

// page is a tab that shows the console.
type page struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	troubles []string // what the browser's console said
	expected []string // parts of troubles that the test makes on purpose
}

// openPage opens the console in a tab of its own. When the test ends, nothing
// unexpected may have been said on the browser's console: no error, no refusal
// by the content security policy.
func openPage(t *testing.T, url string) *page {
	t.Helper()
	browser, err := startBrowser()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &page{t: t, ctx: ctx, url: url}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return // the tab was closed
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" || m.Type == "assert" {
				p.trouble(m.String() + " (" + m.URL + ")")
			}
		}
	}()
	p.do(command(emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-GB"}),
		command(emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Paris"}))
	p.look("light", 1280, 800)
	p.do(chromedp.Navigate(url))
	t.Cleanup(func() {
		defer cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, text := range p.troubles {
			if !slices.ContainsFunc(p.expected, func(part string) bool { return strings.Contains(text, part) }) {
				t.Errorf("the browser's console: %s", text)
			}
		}
		if t.Failed() {
			p.evidence()
		}
	})
	return p
}

// trouble keeps what the console said.
func (p *page) trouble(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, text)
}

// expect says that the browser's console will tell of this, as the test makes
// it happen: a browser logs each refused request.
func (p *page) expect(part string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, part)
}

// evidence tells what the page showed when a test failed.
func (p *page) evidence() {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
	if err != nil {
		text = err.Error()
	}
	p.t.Logf("the page showed:\n%.4000s", text)
}

// action is what is done in a tab, for no value.
type action = chromedp.Action[chromedp.Void]

// command is an action of the browser's protocol.
func command[P, R any](c cdp.Command[P, R], params P) action {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, c, params)
		return err
	})
}

// do performs actions in the tab.
func (p *page) do(actions ...action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}

// eval evaluates JavaScript in the page.
func eval[T any](p *page, js string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](js))
	if err != nil {
		p.t.Fatalf("browser: %v\n%s", err, js)
	}
	return value
}

// run runs JavaScript in the page for what it does.
func (p *page) run(js string) {
	p.t.Helper()
	eval[bool](p, "{"+js+"}; true")
}

// quoted is a string in JavaScript.
func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string has a JSON form
	}
	return string(text)
}

// until waits for a JavaScript expression to become true.
func (p *page) until(what, js string) {
	p.t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(30 * time.Millisecond) {
		if eval[bool](p, "Boolean("+js+")") {
			return
		}
	}
	p.t.Fatalf("%s: not within %s (%s)", what, patience, js)
}

// sees waits for text in the first element of the selector.
func (p *page) sees(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s shows %q", selector, text),
		fmt.Sprintf("[...document.querySelectorAll(%s)].some(e => e.checkVisibility() && e.textContent.includes(%s))", quoted(selector), quoted(text)))
}

// lacks waits for text to be in no visible element of the selector.
func (p *page) lacks(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s does not show %q", selector, text),
		fmt.Sprintf("![...document.querySelectorAll(%s)].some(e => e.checkVisibility() && e.textContent.includes(%s))", quoted(selector), quoted(text)))
}

// click clicks with the mouse on the first visible element of the selector that
// has the text, as soon as nothing lies over it.
func (p *page) click(selector, text string) {
	p.t.Helper()
	p.sees(selector, text)
	at := fmt.Sprintf(`(() => {
		const e = [...document.querySelectorAll(%s)].find(e => e.checkVisibility() && e.textContent.includes(%s));
		e?.scrollIntoView({block: "nearest"});
		const r = e?.getBoundingClientRect();
		const [X, Y] = r ? [r.x + r.width / 2, r.y + r.height / 2] : [0, 0];
		return {X, Y, Free: Boolean(e?.contains(document.elementFromPoint(X, Y)))};
	})()`, quoted(selector), quoted(text))
	p.until(selector+" can be clicked", at+".Free")
	point := eval[struct {
		X, Y float64
		Free bool
	}](p, at)
	p.do(chromedp.MouseClickXY(point.X, point.Y))
}

// fill types into a field, as by pasting.
func (p *page) fill(selector, text string) {
	p.t.Helper()
	p.until(selector+" is there", fmt.Sprintf("document.querySelector(%s)", quoted(selector)))
	p.run(fmt.Sprintf("const e = document.querySelector(%s); e.focus(); e.select()", quoted(selector)))
	p.do(command(input.InsertText, input.InsertTextParams{Text: text}))
}

// press presses keys, one after the other.
func (p *page) press(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.do(chromedp.KeyEvent(k))
	}
}

// login logs in with a token, and waits for the hubs.
func (p *page) login(token string) {
	p.t.Helper()
	p.fill("#token", token)
	p.click("button[type=submit]", "Log in")
	p.sees("h1", "Hubs")
}

// keys types as a person does, key by key.
func (p *page) keys(text string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(text))
}

// choose chooses an option of a select element.
func (p *page) choose(selector, value string) {
	p.t.Helper()
	p.run(fmt.Sprintf(`const e = document.querySelector(%s); e.value = %s; e.dispatchEvent(new Event("change", {bubbles: true}))`, quoted(selector), quoted(value)))
}

// to goes to another place in the console, as by its address.
func (p *page) to(place string) {
	p.t.Helper()
	p.run("location.hash = " + quoted(place))
}

func (p *page) reload() {
	p.t.Helper()
	p.do(chromedp.Reload())
}

// on waits for the switch of auto-provisioning to be on, or off.
func (p *page) on(on bool) {
	p.t.Helper()
	p.until(fmt.Sprintf("auto-provisioning is %t", on), fmt.Sprintf(`document.querySelector("#provisioning").ariaChecked === "%t"`, on))
}

// disabled waits for a button that cannot be pressed.
func (p *page) disabled(selector string) {
	p.t.Helper()
	p.until(selector+" is disabled", fmt.Sprintf("document.querySelector(%s)?.disabled", quoted(selector)))
}

// focused waits for an element to have the keyboard's focus.
func (p *page) focused(selector string) {
	p.t.Helper()
	p.until(selector+" has focus", fmt.Sprintf("document.activeElement.matches(%s)", quoted(selector)))
}

// tabTo presses Tab until an element has focus.
func (p *page) tabTo(selector string) {
	p.t.Helper()
	p.tab(selector)
}

// tabBackTo presses Shift and Tab until an element has focus.
func (p *page) tabBackTo(selector string) {
	p.t.Helper()
	p.tab(selector, chromedp.KeyModifiers(kb.ModifierShift))
}

func (p *page) tab(selector string, how ...chromedp.KeyOption) {
	p.t.Helper()
	const most = 40
	var passed []string
	for range most {
		p.do(chromedp.KeyEvent(kb.Tab, how...))
		at := eval[[2]string](p, fmt.Sprintf(`[document.activeElement.matches(%s) ? "here" : "", document.activeElement.tagName + "#" + document.activeElement.id]`, quoted(selector)))
		if at[0] != "" {
			return
		}
		passed = append(passed, at[1])
	}
	p.t.Fatalf("Tab does not lead to %s, only past %v", selector, passed)
}

// look sets the colour scheme and the size of the window.
func (p *page) look(scheme string, width, height int64) {
	p.t.Helper()
	p.do(command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}), chromedp.EmulateViewport(width, height))
}

// picture is the window as a PNG.
func (p *page) picture() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatalf("browser: %v", err)
	}
	return png
}

var update = flag.Bool("update-screenshots", false, "renew the pictures in docs/images")

// screenshot renews a picture of the documentation, in light and in dark.
func (p *page) screenshot(name string) {
	p.t.Helper()
	if !*update {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		p.look(scheme, 1280, 800)
		p.run("scrollTo(0, 0)")
		p.until("it is drawn", "document.fonts.status === 'loaded'")
		file := filepath.Join("..", "..", "docs", "images", name+"-"+scheme+".png")
		if err := os.WriteFile(file, p.picture(), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	p.look("light", 1280, 800)
}
