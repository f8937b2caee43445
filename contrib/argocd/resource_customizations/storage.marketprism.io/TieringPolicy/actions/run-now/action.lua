local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["storage.marketprism.io/run-now"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
