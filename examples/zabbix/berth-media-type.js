// Script of a Zabbix media type of type "Webhook" (Zabbix 5.0 and later). It posts a problem, and later its recovery, to a
// hook of Berth. Create these parameters of the media type:
//
//   url        http://berth.internal:7460/hooks/zabbix/hook_01…
//   token      the hook's token
//   eventId    {EVENT.ID}
//   value      {EVENT.VALUE}
//   update     {EVENT.UPDATE.STATUS}
//   triggerId  {TRIGGER.ID}
//   host       {HOST.HOST}
//   name       {EVENT.NAME}
//   severity   {EVENT.SEVERITY}
//   tags       {EVENT.TAGSJSON}
//
// Zabbix retries the script as often as the media type says when it throws. Its engine knows ECMAScript 5.
var params = JSON.parse(value);

// Acknowledgements and comments change nothing for Berth.
if (params.update === "1") return "skipped: an update of the event";

var body = {
  eventId: params.eventId,
  value: params.value,
  triggerId: params.triggerId,
  host: params.host,
  name: params.name,
  severity: params.severity,
  tags: params.tags ? JSON.parse(params.tags) : [],
};
var request = new HttpRequest();
request.addHeader("Content-Type: application/json");
request.addHeader("Authorization: Bearer " + params.token);
var response = request.post(params.url, JSON.stringify(body));
var status = request.getStatus();
if (status < 200 || status > 299) throw "Berth answered " + status + ": " + response;
return response;
