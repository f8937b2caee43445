-- Conditions follow kstatus: Stalled and Reconciling are there only while they are true, Ready sums up. What can't get Ready
-- within spec.progressDeadline is Stalled, and so Degraded.
local health = {status = "Progressing", message = "waits for the operator"}
local annotations = obj.metadata.annotations
if annotations ~= nil and annotations["storage.marketprism.io/pause"] == "true" then
  health.status = "Suspended"
  health.message = "paused by the annotation storage.marketprism.io/pause"
  return health
end
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
if ready ~= nil then
  health.message = ready.message
end
if conditions["Stalled"] ~= nil then
  health.status = "Degraded"
elseif obj.spec ~= nil and obj.spec.suspend then
  health.status = "Suspended"
elseif ready ~= nil and ready.status == "True" then
  health.status = "Healthy"
end
return health
