package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/nicholas-fedor/shoutrrr/pkg/util/jsonclient"
)

// ShoutrrrConfig says whom to write to.
type ShoutrrrConfig struct {
	// URLFile holds the URL of a chat, mail or push service, as
	// https://shoutrrr.nickfedor.com describes it. It contains secrets, so it is
	// never shown: not in messages, not in errors. It is read once.
	URLFile string
	// Name of the notifier.
	Name string
	// Title and Text are templates; see TemplateConfig.
	Title, Text string
	// Link is the address of the daemon's page as people reach it; may be empty.
	Link string
}

// Shoutrrr sends news to one of the services that shoutrrr knows: Slack,
// Telegram, Discord, Teams, Matrix, mail, ntfy and others.
type Shoutrrr struct {
	name, scheme string
	service      types.Service
	template     *Template
	// What the service makes of a title and a text.
	titleFormat, format Format
	busy                chan struct{} // holds one while a message is being sent
}

// titled are the services that show a title of their own. Others get it as the
// first line.
var titled = []string{"slack", "discord", "telegram", "lark", "teams", "smtp", "bark", "gotify", "join", "ntfy", "pushbullet", "pushover"}

// markdown are the services that show Markdown.
var markdown = []string{"discord", "mattermost", "rocketchat", "teams", "zulip", "wecom", "notifiarr"}

// NewShoutrrr reads the URL and returns a Teller for it.
func NewShoutrrr(c ShoutrrrConfig) (*Shoutrrr, error) {
	if c.URLFile == "" {
		return nil, errors.New("url_file: there is none; put the URL, which holds secrets, into a file and name it")
	}
	raw, err := readSecret(c.URLFile)
	if err != nil {
		return nil, fmt.Errorf("url_file: %w", err)
	}
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(raw, "\n\r") {
		return nil, fmt.Errorf("url_file: %s does not hold a URL, or more than one", c.URLFile)
	}
	s := &Shoutrrr{name: c.Name, busy: make(chan struct{}, 1)}
	s.scheme, _, _ = strings.Cut(strings.ToLower(u.Scheme), "+")
	var r router.ServiceRouter
	if known := r.ListServices(); !slices.Contains(known, s.scheme) {
		slices.Sort(known)
		return nil, fmt.Errorf("url_file: the URL in %s begins with no service that is known; have %s", c.URLFile, strings.Join(known, ", "))
	}
	format := Plain
	switch {
	case s.scheme == "slack":
		format = Slack
	case slices.Contains(markdown, s.scheme):
		format = Markdown
	case s.scheme == "telegram":
		switch strings.ToLower(u.Query().Get("parsemode")) {
		case "", "none": // shoutrrr escapes it
		case "html":
			format = HTML
		default:
			return nil, fmt.Errorf("url_file: the URL in %s has a parsemode that texts cannot be made safe for; use parsemode=HTML or none", c.URLFile)
		}
	case s.scheme == "smtp" && strings.EqualFold(u.Query().Get("usehtml"), "yes"):
		format = HTML
	}
	r.SetLogger(log.New(io.Discard, "", 0)) // it would show URLs
	if s.service, err = r.Locate(raw); err != nil {
		return nil, fmt.Errorf("url_file: the URL in %s is not one of %s; see the service's page at https://shoutrrr.nickfedor.com", c.URLFile, s.scheme)
	}
	titleFormat := format
	if s.titled() && s.scheme != "slack" && s.scheme != "discord" {
		titleFormat = Plain // it is a subject, or escaped by shoutrrr
	}
	if s.template, err = NewTemplate(TemplateConfig{Title: c.Title, Text: c.Text, Format: format, TitleFormat: titleFormat, Link: c.Link}); err != nil {
		return nil, err
	}
	s.titleFormat, s.format = titleFormat, format
	return s, nil
}

func (s *Shoutrrr) titled() bool { return slices.Contains(titled, s.scheme) }

// Every implements Teller.
func (*Shoutrrr) Every() time.Duration { return 0 }

// Tell implements Teller.
func (s *Shoutrrr) Tell(ctx context.Context, n *News) error {
	title, text := s.template.Message(s.name, n)
	return s.send(ctx, title, text)
}

// Write implements Writer.
func (s *Shoutrrr) Write(ctx context.Context, l *Letter) error {
	title, text := l.message(s.titleFormat, s.format)
	return s.send(ctx, title, text)
}

// send sends a message. The service cannot be told to stop: if it takes too long
// it is left to end by itself, and nothing else is sent until it has.
func (s *Shoutrrr) send(ctx context.Context, title, text string) error {
	params := types.Params{}
	if s.titled() {
		params.SetTitle(title)
	} else {
		text = title + "\n" + text
	}
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("send to %s: the message before is still on its way: %w", s.scheme, ctx.Err())
	}
	sent := make(chan error, 1)
	go func() {
		err := s.service.Send(text, &params)
		<-s.busy
		sent <- err
	}()
	select {
	case err := <-sent:
		return s.safe(err)
	case <-ctx.Done():
		return fmt.Errorf("send to %s: %w", s.scheme, ctx.Err())
	}
}

// safe keeps of an error what cannot contain the URL or parts of it.
func (s *Shoutrrr) safe(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("send to %s: %w", s.scheme, &net.DNSError{Err: e.Err, Name: "its host", IsTimeout: e.IsTimeout, IsNotFound: e.IsNotFound})
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("send to %s: %w", s.scheme, e)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("send to %s: the connection was cut: %w", s.scheme, io.ErrUnexpectedEOF)
	}
	if isTLS(err) {
		return fmt.Errorf("send to %s: %w", s.scheme, errNoTLS)
	}
	code := statusIn(err.Error())
	if e, ok := errors.AsType[jsonclient.Error](err); ok {
		code = e.StatusCode
	}
	if code != 0 {
		return fmt.Errorf("send to %s: %w", s.scheme, &statusError{code: code})
	}
	return fmt.Errorf("send to %s: %w", s.scheme, errService)
}

var (
	errNoTLS   = errors.New("its certificate cannot be trusted")
	errService = errors.New("the service did not take it; check its URL, and that the channel exists")
)

// statusIn finds an HTTP status of failure in the text of an error.
func statusIn(text string) int {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		if len(word) == 3 && (word[0] == '4' || word[0] == '5') {
			return int(word[0]-'0')*100 + int(word[1]-'0')*10 + int(word[2]-'0')
		}
	}
	return 0
}
