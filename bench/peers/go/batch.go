package main

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The contract's bounds, as docs/http-api.md has them.
const (
	eventsPerBatchMax = 1000
	nameCharsMax      = 100
	userCharsMax      = 255
	pastMax           = 400 * 24 * time.Hour
	futureMax         = 5 * time.Minute
)

type batch struct {
	AppID  uuid.UUID `json:"app_id"`
	Events []event   `json:"events"`
}

type event struct {
	EventID    uuid.UUID       `json:"event_id"`
	EventName  string          `json:"event_name"`
	UserID     string          `json:"user_id"`
	Timestamp  time.Time       `json:"timestamp"`
	Properties json.RawMessage `json:"properties,omitempty"`
}

// check says which rule the batch breaks, if any.
func (b *batch) check(now time.Time) error {
	if len(b.Events) == 0 || len(b.Events) > eventsPerBatchMax {
		return fmt.Errorf("events: %d of them, not 1 to %d", len(b.Events), eventsPerBatchMax)
	}
	oldest, newest := now.Add(-pastMax), now.Add(futureMax)
	for i := range b.Events {
		if field, why := b.Events[i].fault(oldest, newest); field != "" {
			return fmt.Errorf("events[%d].%s: %s", i, field, why)
		}
	}
	return nil
}

func (e *event) fault(oldest, newest time.Time) (field, why string) {
	switch {
	case e.EventID == uuid.Nil:
		return "event_id", "missing or nil"
	case !fits(e.EventName, nameCharsMax):
		return "event_name", "empty or too long"
	case !fits(e.UserID, userCharsMax):
		return "user_id", "empty or too long"
	case e.Timestamp.Before(oldest) || e.Timestamp.After(newest):
		return "timestamp", "too old or in the future"
	case len(e.Properties) > 0 && e.Properties[0] != '{' && string(e.Properties) != "null":
		return "properties", "not an object"
	}
	return "", ""
}

func fits(text string, charsMax int) bool {
	return text != "" && (len(text) <= charsMax || utf8.RuneCountInString(text) <= charsMax)
}
