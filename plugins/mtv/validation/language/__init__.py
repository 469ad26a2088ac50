"""The condition language of rule files: a tokenizer, a parser, and an evaluation over whole columns.

    not changeTrackingEnabled                         an attribute of the row; dots go into objects
    host.cluster.drsEnabled                           true and false are conditions by themselves
    capacity <= 0 and mode != "persistent"            == != < <= > >=, and or not, parentheses
    mode in ["independent_persistent", "x"]           in, not in: exact, against a list of literals
    guestName contains "windows"                      substring
    lower(guestId) matches "^rhel[78]_64guest$"       regular expression, found anywhere in the text
    count(cpuAffinity) != 0                           length of a list, an object or a text
    count(volumes, status == "error") > 0             how many items of a list a condition is true for
    has(hostName), default(hostName, "")              whether an attribute is there; a value for when it is not
    extraSpecs["quota:cpu_shares"] > 0                attributes whose name is no word; also ["quota:cpu_shares"]
    filled(guestOS)                                   whether it is there, a text, and not empty; never undefined
    vm.powerState == "poweredOn"                      in tables of parts: an attribute of the VM itself

Texts stand in double or single quotes and know no escapes, so that regular expressions stay readable.

Logic has three values. An attribute that is missing makes what uses it *undefined*, under `not` as well;
`false and undefined` is false, `true or undefined` is true. A rule fires only where its condition is true.
Values of different kinds are unequal and have no order (`<` between them is undefined); 1 is not true.
Only true and false are conditions by themselves; any other attribute used as one is undefined.
"""
