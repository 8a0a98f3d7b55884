package app

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// reloads remembers how the last reload went.
type reloads struct {
	mu      sync.Mutex
	failed  bool
	success time.Time // of the configuration in force
}

// Reload puts a new configuration into force: the rules, the notifiers and the
// log level. All of the new configuration is checked first; if anything is
// wrong with it, or it changes what takes a restart, the old one stays whole and
// the error says why.
func (a *App) Reload() (err error) {
	r := &a.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.o.Reload == nil {
		return fmt.Errorf("reload: this configuration did not come from a file")
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	sdNotify(a.log, daemon.SdNotifyReloading+"\nMONOTONIC_USEC="+fmt.Sprint(now.Nano()/1000))
	defer sdNotify(a.log, daemon.SdNotifyReady)
	defer func() {
		r.failed = err != nil
		if err != nil {
			a.log.Error("reload failed; the old configuration stays", "err", err)
			return
		}
		r.success = time.Now()
		a.log.Info("reloaded")
	}()
	c, err := a.o.Reload()
	if err != nil {
		return err
	}
	old := &a.o.Config
	if fixed := needRestart(old, c); len(fixed) > 0 {
		return fmt.Errorf("reload: %s changed, which takes a restart", strings.Join(fixed, ", "))
	}
	rules, err := compileRules(c)
	if err != nil {
		return err
	}
	outbox, release, err := newOutbox(c, a.ledger, a.log)
	if err != nil {
		return err
	}
	// From here on nothing fails.
	a.rules.current.Store(rules)
	a.notify.swap(outbox, release)
	if a.o.Level != nil {
		a.o.Level.Set(Level(c.Log.Level))
	}
	old.Rules, old.Notify, old.Silences, old.Log = c.Rules, c.Notify, c.Silences, c.Log
	return nil
}

// needRestart lists the settings that differ, but for those that Reload can
// change.
func needRestart(old, c *config.Config) []string {
	same := *c
	same.Rules, same.Notify, same.Silences, same.Log.Level, same.Warnings = old.Rules, old.Notify, old.Silences, old.Log.Level, old.Warnings
	return differing("", reflect.ValueOf(*old), reflect.ValueOf(same))
}

// differing lists the settings, by their paths, in which two structs differ.
func differing(path string, a, b reflect.Value) []string {
	var all []string
	for i := range a.NumField() {
		key := path + a.Type().Field(i).Tag.Get("yaml")
		key = strings.TrimSuffix(key, ".-") // what a setting's file holds
		switch x, y := a.Field(i), b.Field(i); {
		case reflect.DeepEqual(x.Interface(), y.Interface()):
		case x.Kind() == reflect.Struct:
			all = append(all, differing(key+".", x, y)...)
		default:
			all = append(all, key)
		}
	}
	return all
}

// Level returns the slog level of a configured name.
func Level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
