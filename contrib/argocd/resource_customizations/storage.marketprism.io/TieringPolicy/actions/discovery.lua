local suspended = obj.spec ~= nil and obj.spec.suspend == true
return {
  ["suspend"] = {["disabled"] = suspended},
  ["resume"] = {["disabled"] = not suspended},
  -- While it is suspended nothing runs, asked for or not.
  ["run-now"] = {["disabled"] = suspended},
}
