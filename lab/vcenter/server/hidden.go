package main

import (
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// hidden are properties of one object that nobody may read, and the privilege that is missing for it.
type hidden struct {
	object    string   // name of the object
	paths     []string // properties; what lies below one is hidden, too
	privilege string
}

func (h hidden) covers(path string) bool {
	for _, p := range h.paths {
		if path == p || strings.HasPrefix(path, p+".") {
			return true
		}
	}
	return false
}

// labCollector is a session's property collector that answers NoPermission for hidden properties, as a vCenter does:
// the object is there, and its properties are in the answer's missing set.
type labCollector struct {
	*simulator.PropertyCollector
	l *lab
}

// RetrievePropertiesEx reads the first page.
func (c *labCollector) RetrievePropertiesEx(ctx *simulator.Context, r *types.RetrievePropertiesEx) soap.HasFault {
	answer := c.PropertyCollector.RetrievePropertiesEx(ctx, r)
	if body, ok := answer.(*methods.RetrievePropertiesExBody); ok && body.Res != nil && body.Res.Returnval != nil {
		c.l.hide(body.Res.Returnval.Objects)
	}
	return answer
}

// ContinueRetrievePropertiesEx reads a later page.
func (c *labCollector) ContinueRetrievePropertiesEx(ctx *simulator.Context, r *types.ContinueRetrievePropertiesEx) soap.HasFault {
	answer := c.PropertyCollector.ContinueRetrievePropertiesEx(ctx, r)
	if body, ok := answer.(*methods.ContinueRetrievePropertiesExBody); ok && body.Res != nil {
		c.l.hide(body.Res.Returnval.Objects)
	}
	return answer
}

// RetrieveProperties reads everything at once.
func (c *labCollector) RetrieveProperties(ctx *simulator.Context, r *types.RetrieveProperties) soap.HasFault {
	answer := c.PropertyCollector.RetrieveProperties(ctx, r)
	if body, ok := answer.(*methods.RetrievePropertiesBody); ok && body.Res != nil {
		c.l.hide(body.Res.Returnval)
	}
	return answer
}

func (l *lab) hide(objects []types.ObjectContent) {
	l.faults.mu.Lock()
	orders := l.faults.hidden
	l.faults.mu.Unlock()
	if len(orders) == 0 {
		return
	}
	for i := range objects {
		name := l.nameOf(objects[i].Obj)
		for _, h := range orders {
			if h.object == name {
				h.conceal(&objects[i])
			}
		}
	}
}

// conceal moves the hidden properties from what is told to what is missing.
func (h hidden) conceal(o *types.ObjectContent) {
	var told []types.DynamicProperty
	for _, p := range o.PropSet {
		if !h.covers(p.Name) {
			told = append(told, p)
			continue
		}
		o.MissingSet = append(o.MissingSet, types.MissingProperty{Path: p.Name, Fault: types.LocalizedMethodFault{
			LocalizedMessage: "Permission to perform this operation was denied.",
			Fault:            &types.NoPermission{Object: &o.Obj, PrivilegeId: h.privilege},
		}})
	}
	o.PropSet = told
}
