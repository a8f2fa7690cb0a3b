import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs command-line tools of the distribution one after another in one process, which saves the start of a JVM for each.
 *
 * <p>Lines of standard input: what to do, a text, a main class and its arguments, split at blanks ({@code \s} stands for
 * a blank, {@code @/a/b} for the first segments of all partitions whose folders' paths begin so). {@code once} runs the
 * tool; {@code until} runs it again and again until it prints the text; {@code leave} waits for the text whether or not
 * the tool has ended, and then leaves it to itself. What the tool prints comes out between {@code > line} and
 * {@code < status}.
 *
 * <p>The argument is the folder for files of the tools.
 */
public class Tools {
    /** How long a tool may take, and its repetitions together. */
    private static final long PATIENCE_MS = 60_000;

    /** Thrown where a tool would end the process. */
    private static final class Ended extends Error {
        Ended() {
            super(null, null, false, false);
        }
    }

    /** One run: all threads that it starts print to it, and none of another run does. */
    private static final class Run {
        private static final InheritableThreadLocal<Run> CURRENT = new InheritableThreadLocal<>();

        private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
        private final List<Runnable> hooks = new ArrayList<>();
        private Integer status;
        private boolean exited;

        /** What the tool was the first to end with; some catch what is thrown and end once more. */
        synchronized void end(int with) {
            if (status == null) {
                status = with;
            }
            exited = true;
            throw new Ended();
        }

        synchronized void print(int b) {
            // What is printed behind the exit is about our own exception.
            if (!exited) {
                printed.write(b);
            }
        }

        synchronized String text() {
            return printed.toString(StandardCharsets.UTF_8);
        }

        synchronized void hook(Runnable runnable) {
            hooks.add(runnable);
        }

        /** Runs the tool and what it does at the end of the process. */
        void all(String main, String[] arguments) {
            CURRENT.set(this);
            int returned = 0;
            try {
                Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (Throwable thrown) {
                Throwable why = thrown;
                while (why.getCause() != null && !(why instanceof Ended)) {
                    why = why.getCause();
                }
                if (!(why instanceof Ended)) {
                    System.out.println(why);
                    returned = -1;
                }
            }
            for (Runnable hook : hooks) {
                hook.run();
            }
            synchronized (this) {
                status = status == null ? returned : status;
                notifyAll();
            }
        }
    }

    public static void main(String[] args) throws Exception {
        System.setProperty("java.io.tmpdir", args[0]);
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "off");
        PrintStream out = System.out;
        PrintStream divided = new PrintStream(new OutputStream() {
            @Override
            public void write(int b) {
                Run run = Run.CURRENT.get();
                if (run != null) {
                    run.print(b);
                }
            }
        }, true);
        System.setOut(divided);
        System.setErr(divided);
        Exit.setExitProcedure((status, message) -> Run.CURRENT.get().end(status));
        Exit.setHaltProcedure((status, message) -> Run.CURRENT.get().end(status));
        Exit.setShutdownHookAdder((name, runnable) -> Run.CURRENT.get().hook(runnable));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            for (int i = 0; i < words.length; i++) {
                words[i] = words[i].startsWith("@") ? segments(words[i].substring(1)) : words[i].replace("\\s", " ");
            }
            Run run = run(words[0], words[1], words[2], Arrays.copyOfRange(words, 3, words.length));
            out.println("> " + line);
            out.println(run.text());
            out.println("< " + (run.status == null ? "none" : run.status));
            out.flush();
        }
        // Tools leave threads behind.
        Runtime.getRuntime().halt(0);
    }

    private static String segments(String prefix) {
        File parent = new File(prefix).getParentFile();
        List<String> found = new ArrayList<>();
        for (File folder : parent.listFiles()) {
            File segment = new File(folder, "00000000000000000000.log");
            if (folder.getPath().startsWith(prefix) && segment.exists()) {
                found.add(segment.getPath());
            }
        }
        return String.join(",", found);
    }

    private static Run run(String how, String text, String main, String[] arguments) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            Run run = new Run();
            Thread thread = new Thread(() -> run.all(main, arguments), main);
            thread.setDaemon(true);
            thread.start();
            synchronized (run) {
                while (System.currentTimeMillis() < deadline
                        && !(how.equals("leave") ? run.text().contains(text) : run.status != null)) {
                    run.wait(20);
                }
            }
            boolean again = how.equals("until") && !run.text().contains(text);
            if (!again || System.currentTimeMillis() >= deadline) {
                return run;
            }
        }
    }
}
