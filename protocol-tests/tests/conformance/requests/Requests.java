import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Sends requests that are given as JSON, by Kafka's own codec, and prints the answers as JSON.
 *
 * <p>Lines of standard input: {@code Name version {request}}, or {@code await Name version {request}}, which asks again
 * until no error code, and no transaction that is about to end, is left in the answer. Each line gives one line of output: the answer, or {@code {"closed": why}}
 * when there is none.
 *
 * <p>{@code "producer(name)"} in a request is the producer id that InitProducerId gave to the transactional id last.
 */
public class Requests {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final String MESSAGES = "org.apache.kafka.common.message.";
    private static final int ANSWER_MS = 10_000;
    private static final long AWAIT_MS = 20_000;

    private final String host;
    private final int port;
    private Socket socket;
    private int correlationId;
    private final Map<String, Long> producerIds = new HashMap<>();

    private Requests(String address) {
        host = address.substring(0, address.lastIndexOf(':'));
        port = Integer.parseInt(address.substring(address.lastIndexOf(':') + 1));
    }

    public static void main(String[] args) throws Exception {
        Requests requests = new Requests(args[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            boolean await = line.startsWith("await ");
            String[] parts = (await ? line.substring(6) : line).split(" ", 3);
            long end = System.currentTimeMillis() + AWAIT_MS;
            JsonNode answer = requests.ask(parts[0], Short.parseShort(parts[1]), parts[2]);
            while (await && failed(answer) && System.currentTimeMillis() < end) {
                Thread.sleep(20);
                answer = requests.ask(parts[0], Short.parseShort(parts[1]), parts[2]);
            }
            System.out.println(answer);
        }
    }

    private static boolean failed(JsonNode answer) {
        // The markers of a transaction that ends are on their way.
        boolean ends = answer.findValues("transactionState").stream().anyMatch(state -> state.asText().startsWith("Prepare"));
        return ends || answer.has("closed") || answer.findValues("errorCode").stream().anyMatch(code -> code.asInt() != 0);
    }

    private JsonNode ask(String name, short version, String json) throws Exception {
        ApiMessage request;
        try {
            Class<?> converter = Class.forName(MESSAGES + name + "RequestDataJsonConverter");
            request = (ApiMessage) converter.getMethod("read", JsonNode.class, short.class)
                .invoke(null, MAPPER.readTree(withProducerIds(json)), version);
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(name + " " + version + " " + json, e);
        }
        ApiKeys key = ApiKeys.forId(request.apiKey());
        try {
            if (socket == null) {
                socket = new Socket(host, port);
                socket.setSoTimeout(ANSWER_MS);
            }
            send(key, version, request);
            JsonNode answer = receive(key, name, version);
            if (request instanceof InitProducerIdRequestData init && answer.get("producerId").asLong() >= 0) {
                producerIds.put(init.transactionalId(), answer.get("producerId").asLong());
            }
            return answer;
        } catch (java.io.IOException e) {
            socket.close();
            socket = null;
            return closed(e);
        }
    }

    private String withProducerIds(String json) {
        return Pattern.compile("\"producer\\(([^)]*)\\)\"").matcher(json)
            .replaceAll(found -> String.valueOf(producerIds.getOrDefault(found.group(1), -2L)));
    }

    private void send(ApiKeys key, short version, ApiMessage request) throws java.io.IOException {
        RequestHeaderData header = new RequestHeaderData().setRequestApiKey(key.id).setRequestApiVersion(version)
            .setClientId("requests").setCorrelationId(++correlationId);
        short headerVersion = key.requestHeaderVersion(version);
        ObjectSerializationCache cache = new ObjectSerializationCache();
        int size = header.size(cache, headerVersion) + request.size(cache, version);
        ByteBuffer frame = ByteBuffer.allocate(4 + size).putInt(size);
        ByteBufferAccessor out = new ByteBufferAccessor(frame);
        header.write(out, cache, headerVersion);
        request.write(out, cache, version);
        socket.getOutputStream().write(frame.array());
        socket.getOutputStream().flush();
    }

    private JsonNode receive(ApiKeys key, String name, short version) throws Exception {
        DataInputStream in = new DataInputStream(socket.getInputStream());
        byte[] frame = new byte[in.readInt()];
        in.readFully(frame);
        ByteBufferAccessor bytes = new ByteBufferAccessor(ByteBuffer.wrap(frame));
        ResponseHeaderData header = new ResponseHeaderData(bytes, key.responseHeaderVersion(version));
        if (header.correlationId() != correlationId) {
            throw new IllegalStateException("answers out of order");
        }
        Class<?> data = Class.forName(MESSAGES + name + "ResponseData");
        Object response = data
            .getConstructor(org.apache.kafka.common.protocol.Readable.class, short.class).newInstance(bytes, version);
        if (bytes.remaining() > 0) {
            throw new IllegalStateException(bytes.remaining() + " bytes behind the answer");
        }
        return (JsonNode) Class.forName(MESSAGES + name + "ResponseDataJsonConverter")
            .getMethod("write", data, short.class, boolean.class).invoke(null, response, version, false);
    }

    private static ObjectNode closed(Exception why) {
        return MAPPER.createObjectNode().put("closed", why.getClass().getSimpleName());
    }
}
